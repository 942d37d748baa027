"""Frames are those that FFmpeg's own command shows: upright, in the right colours, wherever reading begins."""

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from maskedit.editors import InputError
from maskedit.video.decoding import Upright, decode_container, probe_container


def by_command(path: Path, height: int, width: int) -> np.ndarray:
    """The frames as FFmpeg's command turns them, "frame height width 3"."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-fps_mode", "passthrough"]
    # Its default gives one colour to four pixels.
    command += ["-vf", "scale=flags=bilinear+accurate_rnd+full_chroma_int,format=rgb24", "-f", "rawvideo", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def decode(path: Path, wanted: range | None = None) -> np.ndarray:
    info = probe_container(path)
    return np.stack(list(decode_container(info, range(info.frames) if wanted is None else wanted)))


def difference(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - two).mean())


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
def test_turned_clips_are_shown_upright(
    degrees: int, flips: tuple[bool, bool], tmp_path: Path, make_video: Callable[..., Path]
):
    path = make_video(tmp_path / "a.mp4", frames=3, turned=(degrees, *flips))
    info = probe_container(path)
    assert (info.height, info.width) == ((64, 48) if degrees % 180 else (48, 64))
    assert difference(decode(path), by_command(path, info.height, info.width)) == 0


def test_turning_twice_by_exchange_and_flip_gives_the_picture_back():
    picture = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    quarter, back = Upright(transpose=True, flip_y=True), Upright(transpose=True, flip_x=True)
    np.testing.assert_array_equal(quarter.turn(picture), np.rot90(picture))
    np.testing.assert_array_equal(back.turn(quarter.turn(picture)), picture)
    np.testing.assert_array_equal(Upright(flip_x=True, flip_y=True).turn(picture), np.rot90(picture, 2))


def test_a_clip_turned_by_less_than_a_quarter_is_refused(tmp_path: Path, make_video: Callable[..., Path]):
    path = make_video(tmp_path / "a.mp4", frames=3, turned=(30, False, False))
    with pytest.raises(InputError, match=r"turned by (29|30) degrees, which is no quarter"):
        probe_container(path)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "libx264"), ("a.ts", "libx264")],
)
def test_any_piece_equals_that_part_of_the_whole(
    name: str, codec: str, tmp_path: Path, make_video: Callable[..., Path]
):
    path = make_video(tmp_path / name, codec=codec, frames=40, options={"g": "8"})
    whole = decode(path)
    assert difference(whole, by_command(path, 48, 64)) == 0
    for wanted in (range(1), range(7, 12), range(8, 9), range(21, 40, 3), range(39, 40)):
        np.testing.assert_array_equal(decode(path, wanted), whole[wanted.start : wanted.stop : wanted.step])


def test_pixels_that_are_not_square_are_told(tmp_path: Path, make_video: Callable[..., Path]):
    wide = probe_container(make_video(tmp_path / "a.mp4", frames=2, aspect=Fraction(4, 3)))
    turned = make_video(tmp_path / "b.mp4", frames=2, aspect=Fraction(4, 3), turned=(90, False, False))
    assert wide.pixel_aspect == pytest.approx(4 / 3)
    assert probe_container(turned).pixel_aspect == pytest.approx(3 / 4)


def test_sound_and_the_containers_clock_are_told(tmp_path: Path, make_video: Callable[..., Path]):
    info = probe_container(make_video(tmp_path / "a.ts", frames=12, times=[600 + 50 * n for n in range(12)]))
    assert info.times[0] == 0
    assert info.offset >= 1
    assert info.end == pytest.approx(1, abs=0.01)
    assert not info.has_audio
    assert probe_container(make_video(tmp_path / "b.mp4", frames=24, sound="aac")).has_audio


def test_damaged_frames_are_counted(tmp_path: Path, make_video: Callable[..., Path]):
    path = make_video(tmp_path / "a.mp4", frames=40, options={"g": "4", "bf": "0"})
    with av.open(str(path)) as container:
        places = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    place, size = places[20]
    # The length that comes before the data of the picture.
    content[place : place + size] = b"\xff" * size
    path.write_bytes(content)
    info = probe_container(path)
    found = []
    with pytest.raises(InputError, match=r"\d+ of 40 frames of .*a\.mp4 could be decoded \(.*\): convert it anew"):
        found.extend(decode_container(info, range(40)))
    assert len(found) <= 20
    assert len(list(decode_container(info, range(12)))) == 12
    assert len(list(decode_container(info, range(24, 40)))) == 16


def test_files_that_are_no_clips_are_named(tmp_path: Path, make_video: Callable[..., Path]):
    path = tmp_path / "a.mp4"
    path.write_text("no video")
    with pytest.raises(InputError, match=r"cannot read .*a\.mp4 as a clip \(Invalid data found"):
        probe_container(path)
    whole = make_video(tmp_path / "b.mp4").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is it a video, and complete"):
        probe_container(path)


def test_the_transparent_parts_of_a_gif_are_white(tmp_path: Path):
    from PIL import Image

    pictures = [Image.new("RGBA", (32, 24), (200, 30, 30, 0)) for _ in range(3)]
    for number, picture in enumerate(pictures):
        picture.paste((20, 40, 200, 255), (4 * number, 4, 4 * number + 8, 12))
    pictures[0].save(
        tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[50, 120, 300], disposal=2, loop=0
    )
    info = probe_container(tmp_path / "a.gif")
    assert (info.kind, info.times, info.end) == ("gif", pytest.approx((0, 0.05, 0.17)), pytest.approx(0.47))
    for number, frame in enumerate(decode_container(info, range(3))):
        expected = np.full((24, 32, 3), 255)
        expected[4:12, 4 * number : 4 * number + 8] = (20, 40, 200)
        np.testing.assert_allclose(frame, expected, atol=4)
