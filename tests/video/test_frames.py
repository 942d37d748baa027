"""Clips come in whole: every kind of source, any size, each frame at its time; what is no clip is named in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskedit.editors import InputError
from maskedit.video.frames import frames_of, iterate_frames, probe_clip, read_clip, shrink, working_size
from maskedit.video.timeline import Timeline


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> Path:
    """12 frames of 64x48 pixels, one second."""
    return make_video(tmp_path_factory.mktemp("video") / "a.mp4", options={"crf": "12"})


def write_folder(folder: Path, frames: list[np.ndarray]) -> Path:
    folder.mkdir()
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"f{number}.png")
    return folder


def test_a_clip_is_read_with_its_times(video: Path, moving: Callable[..., np.ndarray]):
    clip = read_clip(video, size=None)
    assert (clip.source, clip.info, clip.frames.dtype) == (video, probe_clip(video), torch.uint8)
    assert clip.times == pytest.approx(np.arange(12) / 12)
    expected = np.stack([moving(number) for number in range(12)])
    assert np.abs(clip.frames.permute(0, 2, 3, 1).numpy().astype(int) - expected).mean() < 4


def test_reading_one_by_one_gives_the_same_frames(video: Path):
    clip = read_clip(video, size=32, start=0.2, frames=4, stride=2)
    frames = list(iterate_frames(video, size=32, start=0.2, frames=4, stride=2))
    assert [frame.time for frame in frames] == list(clip.times) == pytest.approx([0.25, 5 / 12, 7 / 12, 0.75])
    stacked = np.stack([frame.pixels for frame in frames])
    np.testing.assert_array_equal(stacked, clip.frames.permute(0, 2, 3, 1).numpy())
    again = [frame.pixels for frame in frames_of(clip.timeline, size=32)]
    np.testing.assert_array_equal(stacked, again)
    assert torch.equal(read_clip(clip.info, size=32).frames[3:10:2], clip.frames)


def test_a_folder_is_a_clip(tmp_path: Path, moving: Callable[..., np.ndarray]):
    frames = [moving(number, 33, 47) for number in range(11)]
    folder = write_folder(tmp_path / "frames", frames)
    clip = read_clip(folder, size=None, fps=10)
    assert clip.info.kind == "folder"
    assert clip.times == pytest.approx(np.arange(11) / 10)
    np.testing.assert_array_equal(clip.frames.permute(0, 2, 3, 1).numpy(), np.stack(frames))


@pytest.mark.parametrize("shape", [(33, 47), (47, 33), (17, 64)])
def test_odd_sizes_are_read(shape: tuple[int, int], tmp_path: Path, moving: Callable[..., np.ndarray], make_video):
    frames = [moving(number, *shape) for number in range(3)]
    path = make_video(tmp_path / "a.mkv", frames=frames, codec="ffv1")
    clip = read_clip(path, size=None)
    assert clip.frames.shape == (3, 3, *shape)
    assert (clip.frames.permute(0, 2, 3, 1).numpy().astype(int) - frames).mean() < 2


def test_shrinking_averages_areas():
    picture = np.random.default_rng(0).integers(0, 256, (45, 64, 3), dtype=np.uint8)
    height, width = working_size(45, 64, 20)
    assert (height, width) == (14, 20)
    # Each pixel repeated until both grids fit into the finer one, whose blocks are then averaged.
    fine = picture.repeat(14, 0).repeat(20, 1).reshape(14, 45, 20, 64, 3)
    assert np.abs(shrink(picture, height, width) - fine.mean((1, 3))).max() <= 1
    assert shrink(picture, 45, 64) is picture


def test_nothing_is_enlarged():
    assert working_size(48, 64, 512) == (48, 64)
    assert working_size(48, 64, None) == (48, 64)
    assert working_size(1080, 1920, 512) == (288, 512)
    assert working_size(1920, 1080, 512) == (512, 288)
    assert working_size(2, 5000, 16) == (1, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 15}, "size must be at least 16 pixels, got 15"),
        ({"start": 2}, r"start must be before 0\.917 s"),
        ({"stride": 0}, "stride must be 1 or more"),
        ({"frames": 1}, "at least 2 frames"),
        ({"fps": 12}, "fps is for folders of pictures"),
    ],
)
def test_arguments_are_refused_before_a_frame_is_read(options: dict, message: str, video: Path):
    with pytest.raises(InputError, match=message):
        iterate_frames(video, **options)


def test_what_is_no_clip_is_named(tmp_path: Path, video: Path, moving: Callable[..., np.ndarray]):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    content = video.read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])
    Image.fromarray(moving(0)).save(tmp_path / "photo.jpg")
    for name, message in {
        "none.mp4": "found no such file or folder",
        "empty.mp4": "found an empty file",
        "folder": "expected pictures",
        "half.mp4": "is it a video, and complete",
        "photo.jpg": "at least 2 frames, .* holds 1",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            probe_clip(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_frames_that_were_made_have_no_source():
    with pytest.raises(InputError, match="without a source"):
        frames_of(Timeline.steady(3, 12))


def test_a_real_clip_is_read(real_data: Path):
    path = real_data / "videos" / "wolf.mp4"
    if not path.is_file():
        pytest.skip(f"needs {path.name} among the real inputs")
    info = probe_clip(path)
    assert (info.frames, info.width, info.height, info.fps, info.end) == (40, 512, 512, 20, 2)
    clip = read_clip(path, size=128, start=1, frames=5)
    assert clip.frames.shape == (5, 3, 128, 128)
    assert clip.times == pytest.approx([1, 1.05, 1.1, 1.15, 1.2])
    assert clip.frames.float().std() > 20
