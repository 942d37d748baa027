"""Times of frames are those that were written, in every container; a truncated file says how much of it is there."""

import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from maskedit.editors import InputError, MissingExtraError
from maskedit.video.containers import FrameTimes, load_av, open_container, scan_times, video_stream

UNEVEN = [0, 50, 60, 200, 210, 500, 505, 700, 800, 900, 1000, 1200]
"""Times of frames in 1/600 s."""


def scan(path: Path) -> FrameTimes:
    with open_container(path) as container:
        return scan_times(container, video_stream(container, path), path)


def cut(path: Path, share: float) -> Path:
    """The beginning of a file."""
    content = path.read_bytes()
    shorter = path.with_name(f"cut{path.suffix}")
    shorter.write_bytes(content[: int(len(content) * share)])
    return shorter


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.webm", "libvpx-vp9"),
        ("a.ts", "libx264"),
    ],
)
def test_uneven_times_are_found(name: str, codec: str, tmp_path: Path, make_video: Callable[..., Path]):
    found = scan(make_video(tmp_path / name, codec=codec, times=UNEVEN))
    # Matroska counts milliseconds.
    np.testing.assert_allclose(np.subtract(found.times, found.times[0]), np.array(UNEVEN) / 600, atol=6e-4)
    assert found.is_timed
    assert found.end > found.times[-1]


def test_the_order_of_decoding_does_not_matter(tmp_path: Path, make_video: Callable[..., Path]):
    path = make_video(tmp_path / "a.mp4", frames=12, options={"bf": "3", "b_strategy": "0"})
    with open_container(path) as container:
        stored = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert stored != sorted(stored)
    found = scan(path)
    np.testing.assert_allclose(found.times, np.arange(12) / 12, atol=1e-6)
    assert found.end == pytest.approx(1.0)


def test_an_avi_counts_its_frames_only(tmp_path: Path, make_video: Callable[..., Path]):
    found = scan(make_video(tmp_path / "a.avi", frames=12, options={"bf": "3", "b_strategy": "0"}))
    assert not found.is_timed
    np.testing.assert_allclose(found.times, np.arange(12) / 12)


def test_pictures_that_are_never_shown_are_not_counted(tmp_path: Path, make_video: Callable[..., Path]):
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "arnr-maxframes": "5"}
    path = make_video(tmp_path / "a.webm", codec="libvpx", frames=40, options=options)
    with open_container(path) as container:
        shown = sum(1 for _ in container.decode(video=0))
    assert len(scan(path).times) == shown == 40


@pytest.mark.parametrize(
    ("name", "codec", "share", "muxer"),
    [
        ("a.mp4", "libx264", 0.8, {"movflags": "faststart"}),
        ("a.mkv", "libx264", 0.8, {}),
        ("a.webm", "libvpx", 0.8, {}),
        ("a.avi", "mpeg4", 0.8, {}),
    ],
)
def test_a_truncated_file_says_how_much_is_there(
    name: str, codec: str, share: float, muxer: dict[str, str], tmp_path: Path, make_video: Callable[..., Path]
):
    whole = make_video(tmp_path / name, codec=codec, frames=40, muxer=muxer, options={"g": "10"})
    assert len(scan(whole).times) == 40
    with pytest.raises(InputError, match=r"ends too early: [1-9]\d* of at least (39|40|41) frames are") as caught:
        scan(cut(whole, share))
    assert "\n" not in str(caught.value)


def test_a_truncated_gif_is_refused(tmp_path: Path, make_video: Callable[..., Path]):
    frames = [np.full((48, 64, 3), shade, np.uint8) for shade in range(0, 240, 20)]
    times = [60 * number for number in range(12)]
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="rgb8")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(scan(path).times, np.array(times) / 600)
    with pytest.raises(InputError, match="ends too early"):
        scan(cut(path, 0.6))


def test_sound_alone_is_no_clip(tmp_path: Path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"expected moving pictures in .*a\.m4a, found no video stream"):
        scan(path)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    assert load_av() is av
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match="needs the package av: install it with `pip install av`"):
        load_av()
