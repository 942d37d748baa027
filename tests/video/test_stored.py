"""Stored frames are those of the clip, and neither storing nor reading a piece holds a long clip in memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.editors import InputError
from maskedit.video.frames import TimedFrame, read_clip
from maskedit.video.stored import move_stored, open_stored, store_array, store_frames
from maskedit.video.timeline import Timeline

LONG = """
import resource, sys
from pathlib import Path
import numpy as np
from maskedit.video.frames import iterate_frames, read_clip
from maskedit.video.stored import open_stored, store_frames
from maskedit.video.timeline import Timeline
from maskedit.video.writing import ClipWriter, WriteConfig

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def write(path, count):
    with ClipWriter(path, Timeline.steady(count, 25), config=WriteConfig(preset="ultrafast")) as writer:
        for number in range(count):
            noise[number % 120] = (number * 7) % 256
            writer.write(noise)

noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
folder = Path(sys.argv[1])
write(folder / "short.mp4", 150)
store_frames(folder / "short.mp4", folder / "short")
before = peak()
write(folder / "long.mp4", 2000)
stored = store_frames(folder / "long.mp4", folder / "long")
rows = open_stored(folder / "long").rows(slice(1000, 1050))
after = peak()
print(len(stored), stored.height, stored.width, tuple(rows.shape), after - before)
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "a.mp4")


def test_stored_frames_equal_those_in_memory(video: Path, tmp_path: Path):
    options = {"size": 32, "start": 0.2, "frames": 4, "stride": 2}
    clip, stored = read_clip(video, **options), store_frames(video, tmp_path / "run", **options)
    assert torch.equal(stored.rows(), clip.frames)
    assert torch.equal(stored.rows(slice(1, 3)), clip.frames[1:3])
    assert torch.equal(stored.rows(-1), clip.frames[-1:])
    assert (stored.timeline, stored.times, stored.info) == (clip.timeline, clip.times, clip.info)
    assert (len(stored), stored.height, stored.width) == (4, 24, 32)
    assert open_stored(tmp_path / "run") == stored
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["frames.json", "frames.npy"]
    assert np.load(tmp_path / "run" / "frames.npy").shape == (4, 3, 24, 32)


def test_rows_are_copies_that_can_be_changed(video: Path, tmp_path: Path):
    stored = store_frames(video, tmp_path)
    rows = stored.rows(slice(2))
    before = rows.clone()
    rows.zero_()
    assert torch.equal(stored.rows(slice(2)), before)


@pytest.mark.parametrize("number", [12, -13])
def test_frames_that_are_not_there_are_refused(number: int, video: Path, tmp_path: Path):
    with pytest.raises(InputError, match=f"between 0 and 11, got {number}"):
        store_frames(video, tmp_path).rows(number)


def test_a_failed_storing_leaves_nothing_that_looks_whole(video: Path, tmp_path: Path):
    store_frames(video, tmp_path)

    def broken():
        yield TimedFrame(0.0, np.zeros((16, 16, 3), np.uint8))
        raise InputError("1 of 3 frames could be decoded")

    with pytest.raises(InputError, match="1 of 3"):
        store_array(broken(), Timeline.steady(3, 12), tmp_path)
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(InputError, match="store the frames of the clip anew"):
        open_stored(tmp_path)


def test_frames_of_two_sizes_are_refused(tmp_path: Path):
    frames = [TimedFrame(0.0, np.zeros((16, width, 3), np.uint8)) for width in (16, 18)]
    with pytest.raises(InputError, match="one size, got 18x16 after 16x16"):
        store_array(frames, Timeline.steady(2, 12), tmp_path)


def test_damaged_folders_are_named(video: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"cannot read .*frames\.json"):
        open_stored(tmp_path)
    stored = store_frames(video, tmp_path)
    np.save(tmp_path / "frames.npy", stored.rows(slice(3)).numpy())
    with pytest.raises(InputError, match=r"expected 12 frames .* its shape is \(3, 3, 48, 64\)"):
        open_stored(tmp_path)
    (tmp_path / "frames.npy").unlink()
    for read in (lambda: open_stored(tmp_path), stored.rows):
        with pytest.raises(InputError, match="store them anew"):
            read()


@pytest.mark.slow
def test_a_long_clip_is_never_in_memory(tmp_path: Path):
    """2000 frames of 160x120 pixels are 110 MiB; writing, storing and reading 50 of them takes a fraction of that."""
    done = subprocess.run(
        [sys.executable, "-c", LONG, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    *shape, growth = done.stdout.rsplit(maxsplit=1)
    assert shape == ["2000 120 160 (50, 3, 120, 160)"]
    assert float(growth) < 30


def test_a_source_that_was_moved_is_found_again(video: Path, tmp_path: Path):
    before = store_frames(video, tmp_path / "run")
    move_stored(tmp_path / "run", tmp_path / "b.mp4")
    after = open_stored(tmp_path / "run")
    assert after.info is not None and after.info.path == tmp_path / "b.mp4"
    assert after.times == before.times and torch.equal(after.rows(), before.rows())
    store_array([TimedFrame(0.0, np.zeros((4, 4, 3), np.uint8))], Timeline.steady(1, 12.0), tmp_path / "made")
    move_stored(tmp_path / "made", tmp_path / "b.mp4")
    assert open_stored(tmp_path / "made").info is None
