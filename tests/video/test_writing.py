"""Whatever happens while a clip is written, its place holds the old clip, none, or the whole new one."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.editors import InputError
from maskedit.video.frames import probe_clip, read_clip
from maskedit.video.timeline import Timeline, select_frames
from maskedit.video.writing import ClipWriter, WriteConfig, write_clip

ENDLESS = """
import sys
import numpy as np
from maskedit.video.timeline import Timeline
from maskedit.video.writing import ClipWriter
with ClipWriter(sys.argv[1], Timeline.steady(10**5, 25)) as writer:
    for number in range(10**5):
        writer.write(np.full((64, 64, 3), number % 256, np.uint8))
        if number == 100:
            print("writing", flush=True)
"""


@pytest.fixture
def clip(moving: Callable[..., np.ndarray]) -> torch.Tensor:
    """6 frames of 64x48 pixels."""
    return torch.from_numpy(np.stack([moving(number) for number in range(6)])).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a", "new/folders/a.mp4"])
def test_a_clip_comes_back(name: str, clip: torch.Tensor, tmp_path: Path):
    timeline = Timeline(times=(1.0, 1.1, 1.2, 1.5, 1.6, 1.7), end=2.0)
    written = write_clip(tmp_path / name, clip, timeline)
    found = read_clip(tmp_path / name, size=None)
    assert (written.path, written.frames) == (tmp_path / name, 6)
    assert found.times == pytest.approx([t - 1 for t in timeline.times], abs=1e-4)
    assert found.info.end == pytest.approx(1.0, abs=1e-3)
    assert (found.frames.int() - clip.int()).abs().float().mean() < 8
    assert torch.equal(found.frames, clip) == (written.codec == "png")
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [(tmp_path / name).name]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
def test_both_forms_of_a_frame_are_taken(name: str, clip: torch.Tensor, tmp_path: Path):
    write_clip(tmp_path / f"one{Path(name).suffix}", clip, Timeline.steady(6, 12))
    arrays = (frame.permute(1, 2, 0).numpy() for frame in clip)
    write_clip(tmp_path / f"two{Path(name).suffix}", arrays, Timeline.steady(6, 12))
    one, two = (read_clip(tmp_path / f"{n}{Path(name).suffix}", size=None).frames for n in ("one", "two"))
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
def test_an_error_leaves_what_was_there(name: str, clip: torch.Tensor, tmp_path: Path):
    write_clip(tmp_path / name, clip, Timeline.steady(6, 12))
    before = read_clip(tmp_path / name, size=None)

    def fail() -> None:
        with ClipWriter(tmp_path / name, Timeline.steady(6, 12)) as writer:
            writer.write(255 - clip[0])
            raise KeyError("somewhere else")

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(read_clip(tmp_path / name, size=None).frames, before.frames)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
def test_a_clip_takes_the_place_of_another(name: str, clip: torch.Tensor, tmp_path: Path):
    write_clip(tmp_path / name, clip, Timeline.steady(6, 12))
    write_clip(tmp_path / name, 255 - clip[:3], Timeline.steady(3, 12))
    found = read_clip(tmp_path / name, size=None)
    assert (found.frames.int() - (255 - clip[:3]).int()).abs().float().mean() < 8
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a"])
def test_a_kill_leaves_what_was_there(name: str, clip: torch.Tensor, tmp_path: Path):
    write_clip(tmp_path / name, clip, Timeline.steady(6, 12))
    before = read_clip(tmp_path / name, size=None).frames
    child = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
    assert torch.equal(read_clip(tmp_path / name, size=None).frames, before)
    write_clip(tmp_path / name, 255 - clip, Timeline.steady(6, 12))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_source_can_be_written_over(tmp_path: Path, make_video: Callable[..., Path]):
    path = make_video(tmp_path / "a.mp4", frames=30, sound="aac")
    clip = read_clip(path, size=None)
    written = write_clip(path, 255 - clip.frames, clip.timeline)
    found = read_clip(path, size=None)
    assert (written.sound, found.info.has_audio) == ("copied", True)
    assert (found.frames.int() - (255 - clip.frames).int()).abs().float().mean() < 4


def test_what_is_not_as_in_the_source_is_told(tmp_path: Path, make_video: Callable[..., Path]):
    loud = probe_clip(make_video(tmp_path / "loud.mp4", frames=30, sound="aac"))
    still = probe_clip(make_video(tmp_path / "still.mp4", frames=30))
    frames = [np.zeros((17, 19, 3), np.uint8)] * 30

    def warnings(name: str, timeline: Timeline, config: WriteConfig | None = None) -> tuple[str, ...]:
        written = write_clip(tmp_path / name, frames[: len(timeline)], timeline, config=config)
        assert probe_clip(tmp_path / name).has_audio == (written.sound != "left out")
        return written.warnings

    odd = "an mp4 has even sides: the last row or column of each frame is there twice"
    assert warnings("a.mp4", select_frames(loud)) == (odd,)
    assert warnings("a.mp4", select_frames(still)) == ("sound is left out: the source has none", odd)
    assert warnings("a.mp4", select_frames(loud, stride=2))[0] == "sound is left out: only one of 2 frames was taken"
    assert warnings("a.mp4", select_frames(loud), WriteConfig(sound=False)) == (odd,)
    assert warnings("a.mp4", Timeline.steady(3, 12)) == ("sound is left out: the source has none", odd)
    assert warnings("a.gif", select_frames(loud)) == ("sound is left out: only an mp4 holds it",)
    assert warnings("a.gif", select_frames(still)) == ()
    assert warnings("b.gif", Timeline.steady(30, 100)) == ("15 frames are left out: a gif shows at most 50 a second",)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([(48, 64)] * 2, "is to have 3 frames, got 2"),
        ([(48, 64)] * 4, "is to have 3 frames, got one more"),
        ([(48, 64), (48, 62), (48, 64)], "one size, got 62x48 after 64x48 pixels"),
        ([], "is to have 3 frames, got 0"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a"])
def test_frames_that_do_not_fit_the_timeline_are_refused(name: str, frames: list, message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        write_clip(tmp_path / name, [np.zeros((*size, 3), np.uint8) for size in frames], Timeline.steady(3, 12))
    assert not list(tmp_path.iterdir())


def test_folders_of_others_are_left_alone(clip: torch.Tensor, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "frame_00000.jpg").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("photos", "file"):
        with pytest.raises(InputError, match="holds other things than frames: name a new or empty folder"):
            write_clip(tmp_path / name, clip, Timeline.steady(6, 12))
    (tmp_path / "empty").mkdir()
    assert write_clip(tmp_path / "empty", clip, Timeline.steady(6, 12)).frames == 6
    assert (tmp_path / "photos" / "frame_00000.jpg").read_text() == "mine"


def test_places_that_cannot_be_written_are_named(clip: torch.Tensor, tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "dir.mp4").mkdir()
    for name, message in {
        "a.webm": r"ending in \.mp4 or \.gif, or that of a folder, got a\.webm",
        "file/a.mp4": "cannot write .*: choose another output",
        "dir.mp4": "cannot write .*: choose another output",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            write_clip(tmp_path / name, clip, Timeline.steady(6, 12))
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir.mp4", "file"]


def test_there_is_no_result_before_the_end(clip: torch.Tensor, tmp_path: Path):
    with ClipWriter(tmp_path / "a.gif", Timeline.steady(6, 12)) as writer:
        for frame in clip:
            writer.write(frame)
        with pytest.raises(InputError, match="not written yet"):
            _ = writer.result
    assert writer.result.codec == "gif"


@pytest.mark.parametrize("values", [{"crf": -1}, {"crf": 52}, {"loop": -2}])
def test_settings_out_of_range_are_refused(values: dict[str, int]):
    name, value = next(iter(values.items()))
    with pytest.raises(ValueError, match=f"{name} must be between .*, got {value}"):
        WriteConfig(**values)


def test_sound_of_a_source_that_has_gone_is_left_out(tmp_path: Path, make_video: Callable[..., Path]):
    clip = read_clip(make_video(tmp_path / "a.mp4", sound="aac"), size=None)
    (tmp_path / "a.mp4").unlink()
    written = write_clip(tmp_path / "b.mp4", clip.frames, clip.timeline)
    assert written.sound == "left out"
    assert written.warnings == (f"sound is left out: {tmp_path / 'a.mp4'} cannot be opened",)
