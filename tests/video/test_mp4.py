"""Mp4s show each frame for as long as the source, in its colours, on every player; without x264 they say so."""

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from maskedit.editors import InputError
from maskedit.video.frames import probe_clip, read_clip
from maskedit.video.mp4 import Mp4Sink
from maskedit.video.timeline import Timeline, select_frames


def write(path: Path, frames: list[np.ndarray], timeline: Timeline, crf: int = 12) -> Mp4Sink:
    sink = Mp4Sink(path, timeline, crf=crf, preset="veryfast", with_sound=False)
    try:
        for pixels in frames:
            sink.write(pixels)
        sink.finish()
    finally:
        sink.close()
    return sink


def test_frames_keep_their_times(tmp_path: Path, moving: Callable[..., np.ndarray]):
    times = (3.0, 3.1, 3.15, 3.9, 4.0)
    write(tmp_path / "a.mp4", [moving(number) for number in range(5)], Timeline(times=times, end=4.7))
    info = probe_clip(tmp_path / "a.mp4")
    assert info.times == pytest.approx([time - 3 for time in times], abs=2e-5)
    assert info.end == pytest.approx(1.7, abs=1e-3)
    assert info.offset == 0


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24000, 1001), 25, 60])
def test_common_rates_are_told_by_other_readers(fps: Fraction, tmp_path: Path, moving: Callable[..., np.ndarray]):
    write(tmp_path / "a.mp4", [moving(number) for number in range(24)], Timeline.steady(24, float(fps)))
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(float(fps), rel=1e-3)


def test_frames_of_one_time_follow_each_other(tmp_path: Path, moving: Callable[..., np.ndarray]):
    write(tmp_path / "a.mp4", [moving(number) for number in range(3)], Timeline(times=(0.0, 0.5, 0.5), end=1.0))
    assert probe_clip(tmp_path / "a.mp4").times == pytest.approx((0, 0.5, 0.5), abs=1e-4)


@pytest.mark.parametrize("shape", [(33, 47), (48, 47), (33, 64)])
def test_odd_sides_repeat_their_edge(shape: tuple[int, int], tmp_path: Path, moving: Callable[..., np.ndarray]):
    frames = [moving(number, *shape) for number in range(3)]
    write(tmp_path / "a.mp4", frames, Timeline.steady(3, 12), crf=1)
    found = read_clip(tmp_path / "a.mp4", size=None).frames.permute(0, 2, 3, 1).numpy().astype(int)
    height, width = shape
    assert found.shape == (3, height + height % 2, width + width % 2, 3)
    assert np.median(np.abs(found[:, :height, :width] - frames)) <= 1
    assert np.abs(found[:, -1, :-1] - found[:, height - 1, :-1]).mean() < 3
    assert np.abs(found[:, :-1, -1] - found[:, :-1, width - 1]).mean() < 3


@pytest.mark.parametrize(("height", "width", "matrix"), [(48, 64, 6), (720, 1280, 1)])
def test_the_file_names_its_colours(
    height: int, width: int, matrix: int, tmp_path: Path, moving: Callable[..., np.ndarray]
):
    frames = [moving(number, height, width) for number in range(2)]
    write(tmp_path / "a.mp4", frames, Timeline.steady(2, 12))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (stream.codec.name, context.pix_fmt, context.colorspace, context.color_range) == (
            "h264",
            "yuv420p",
            matrix,
            1,
        )
    # The program itself, because imageio's own reader leaves its pipes open when it is closed early.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / "a.mp4"), "-frames:v", "1"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    found = np.frombuffer(raw, np.uint8).reshape(height, width, 3)
    assert np.median(np.abs(found.astype(int) - frames[0])) <= 3


def test_pixels_that_are_not_square_stay_so(tmp_path: Path, make_video: Callable[..., Path]):
    source = probe_clip(make_video(tmp_path / "wide.mp4", frames=3, aspect=Fraction(4, 3)))
    frames = [frame.permute(1, 2, 0).numpy() for frame in read_clip(source, size=None).frames]
    write(tmp_path / "a.mp4", frames, select_frames(source))
    assert probe_clip(tmp_path / "a.mp4").pixel_aspect == pytest.approx(4 / 3)


def test_the_same_frames_make_the_same_file(tmp_path: Path, moving: Callable[..., np.ndarray]):
    for name in ("a.mp4", "b.mp4"):
        write(tmp_path / name, [moving(number) for number in range(10)], Timeline.steady(10, 12))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_index_comes_first(tmp_path: Path, moving: Callable[..., np.ndarray]):
    write(tmp_path / "a.mp4", [moving(number) for number in range(4)], Timeline.steady(4, 12))
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_lower_factor_is_better(tmp_path: Path, moving: Callable[..., np.ndarray]):
    sizes = []
    for crf in (10, 40):
        write(tmp_path / "a.mp4", [moving(number) for number in range(10)], Timeline.steady(10, 12), crf=crf)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes[0] > 1.5 * sizes[1]


def test_the_older_encoder_takes_over_and_the_lack_of_any_is_told(
    tmp_path: Path, moving: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    frames, times = [moving(number) for number in range(4)], (0.0, 0.3, 0.4, 0.8)
    monkeypatch.setattr(av.codec, "codecs_available", {"mpeg4", "gif"})
    assert write(tmp_path / "a.mp4", frames, Timeline(times=times, end=1.0)).codec == "mpeg4"
    clip = read_clip(tmp_path / "a.mp4", size=None)
    assert clip.times == pytest.approx(times, abs=1e-4)
    assert np.abs(clip.frames.permute(0, 2, 3, 1).numpy().astype(int) - frames).mean() < 8
    monkeypatch.setattr(av.codec, "codecs_available", {"gif"})
    with pytest.raises(InputError, match="found neither libx264 nor mpeg4"):
        write(tmp_path / "b.mp4", frames, Timeline.steady(4, 12))
    assert not (tmp_path / "b.mp4").exists()
