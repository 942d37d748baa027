"""A clip from its file to the edited file, in stages that resume."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import Editor, InputError, SessionError
from maskedit.video.fit import FitConfig
from maskedit.video.fitting import QualityError
from maskedit.video.flow import FlowConfig
from maskedit.video.frames import probe_clip
from maskedit.video.layers import LayersConfig
from maskedit.video.options import FramesConfig, RenderConfig, VideoConfig
from maskedit.video.preparing import RunProgress
from maskedit.video.rendering import RenderSummary
from maskedit.video.segments import SegmentConfig
from maskedit.video.stages import VideoRun, saved_config
from maskedit.video.timeline import Timeline
from maskedit.video.writing import write_clip


@pytest.fixture
def source(tmp_path: Path, slide_folder: Path) -> Path:
    """A clip of its own for each test."""
    return Path(shutil.copytree(slide_folder, tmp_path / "slide"))


@pytest.fixture
def run_folder(tmp_path: Path, finished_run: Path) -> Path:
    """A finished run of its own for each test, of `slide_folder`."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def do_all(
    run: VideoRun, source: Path, editor: Callable[[], Editor], ask: dict[str, Any], output: Path | None = None
) -> RenderSummary:
    run.prepare(source)
    run.fit()
    run.edit(editor, **ask)
    return run.render(output)


def no_editor() -> Editor:
    raise AssertionError("the editor is loaded, although nothing is to be edited")


def test_a_clip_is_edited_and_everything_is_in_its_place(
    tmp_path: Path, slide_folder: Path, red_editor: Editor, run_config: VideoConfig, run_edit: dict[str, Any]
) -> None:
    heard: list[RunProgress] = []
    run = VideoRun(tmp_path / "run", run_config)
    clip = run.prepare(slide_folder, report=heard.append)
    assert (len(clip), clip.height, clip.width) == (8, 32, 48)
    fit = run.fit(heard.append)
    assert len(fit.psnr) == 8 and fit.mean_psnr > 30 and fit.segments == 2 and not fit.was_reused
    edit = run.edit(lambda: red_editor, **run_edit, report=heard.append)
    assert 0.02 < edit.masked < 0.3 and len(edit.traces) == 1
    done = run.render(report=heard.append)
    assert run.reused == []
    names = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file()}
    layers = [f"segment_00{n}_layer_0" for n in (0, 1)]
    assert names == {
        *("run.json", "lock", "fit.json", "frames/frames.npy", "frames/frames.json", "slide_edited.mp4"),
        *(f"flow/segment_00{n}.npz" for n in (0, 1)),
        *(f"fit/segment_00{n}.{ending}" for n in (0, 1) for ending in ("safetensors", "json")),
        *(f"canonical/{name}{ending}" for name in layers for ending in (".png", "_seen.png")),
        *(f"edit/{name}{ending}" for name in layers for ending in (".png", "_mask.png")),
        *("edit/sheet.png", "edit/sheet_mask.png", "edit/sheet_edited.png", "edit/edit.json"),
        *("render/strip.png", "render/render.json"),
    }
    assert done.output == run.folder / "slide_edited.mp4" and done.frames == 8 and done.changed_outside == 0
    assert done.psnr == pytest.approx(fit.mean_psnr, abs=1e-3)
    assert {each.stage for each in heard} == {"frames", "flow", "masks", "fit", "edit", "render"}
    assert all(0 <= each.done <= each.total for each in heard)
    assert [each.done for each in heard if each.stage == "fit"] == [20, 30, 50, 60]


def test_a_second_time_nothing_is_done_again(
    run_folder: Path, slide_folder: Path, run_config: VideoConfig, run_edit: dict[str, Any]
) -> None:
    # The copy is a run of its own: what was rendered into the folder of the first one is not its result.
    first = VideoRun(run_folder).render()
    written = first.output.stat().st_mtime_ns
    run = VideoRun(run_folder, run_config)
    second = do_all(run, slide_folder, no_editor, run_edit)
    assert run.reused == ["frames", "flow", "masks", "fit", "edit", "render"]
    assert second == replace(first, was_reused=True)
    assert first.output.stat().st_mtime_ns == written
    first.output.write_bytes(b"something else")
    assert not run.render().was_reused


@pytest.mark.parametrize(
    ("changes", "reused"),
    [
        ({"fit": FitConfig(steps=31, margin=0.2)}, ["frames", "flow", "masks"]),
        ({"flow": FlowConfig(method="dis", tolerance_pixels=1.0)}, ["frames", "masks"]),
        ({"frames": FramesConfig(frames=7)}, []),
        ({"render": RenderConfig(transfer="residual")}, ["frames", "flow", "masks", "fit", "edit"]),
        ({"minimum_psnr": 1.0}, ["frames", "flow", "masks", "fit", "edit"]),
        ({"segments": SegmentConfig(length=8, overlap=2)}, ["frames", "masks"]),
    ],
)
def test_a_changed_setting_repeats_what_follows_from_it(
    run_folder: Path,
    slide_folder: Path,
    red_editor: Editor,
    run_config: VideoConfig,
    run_edit: dict[str, Any],
    changes: dict[str, Any],
    reused: list[str],
) -> None:
    run = VideoRun(run_folder, replace(run_config, **changes))
    do_all(run, slide_folder, lambda: red_editor, run_edit)
    assert run.reused == reused
    assert saved_config(run_folder) == run.config


def test_other_times_of_the_same_pictures_are_rendered_anew(run_folder: Path, slide_folder: Path) -> None:
    config = saved_config(run_folder)
    before = VideoRun(run_folder).render()
    run = VideoRun(run_folder, replace(config, frames=replace(config.frames, fps=6.0)))
    run.prepare(slide_folder)
    run.fit()
    done = run.render()
    assert run.reused == ["flow", "masks", "fit"] and done.output == before.output
    assert probe_clip(done.output).end == pytest.approx(8 / 6, abs=1e-3)


def test_a_render_that_lost_a_file_is_made_again(run_folder: Path) -> None:
    run = VideoRun(run_folder, replace(saved_config(run_folder), render=RenderConfig(side_by_side=True)))
    for name in ("strip.png", "side_by_side.mp4", "render.json"):
        assert not run.render().was_reused
        assert run.render().was_reused
        (run_folder / "render" / name).unlink()
    assert not run.render().was_reused


def test_another_seed_makes_another_edit_and_render(
    run_folder: Path, red_editor: Editor, run_edit: dict[str, Any]
) -> None:
    run = VideoRun(run_folder)
    one = (run_folder / "edit" / "sheet_edited.png").read_bytes()
    run.render()
    assert not run.edit(lambda: red_editor, **run_edit, seed=1).was_reused
    assert (run_folder / "edit" / "sheet_edited.png").read_bytes() != one
    assert not run.render().was_reused


def test_stages_go_on_from_the_folder_alone(
    tmp_path: Path,
    slide_folder: Path,
    finished_run: Path,
    red_editor: Editor,
    run_config: VideoConfig,
    run_edit: dict[str, Any],
) -> None:
    run = VideoRun(tmp_path / "run", run_config)
    run.prepare(slide_folder)
    VideoRun(tmp_path / "run").fit()
    VideoRun(tmp_path / "run").edit(lambda: red_editor, **run_edit)
    done = VideoRun(tmp_path / "run").render()
    assert done.output.read_bytes() == (finished_run / done.output.name).read_bytes()


_FIT = """
import sys
from pathlib import Path
from maskedit.video.stages import VideoRun
run = VideoRun(Path(sys.argv[1]))
run.fit()
"""


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_same_fields(tmp_path: Path, slide_folder: Path, run_config: VideoConfig) -> None:
    config = replace(run_config, fit=FitConfig(steps=160, margin=0.2))
    whole, cut = VideoRun(tmp_path / "whole", config), VideoRun(tmp_path / "cut", config)
    whole.prepare(slide_folder)
    whole.fit()
    cut.prepare(slide_folder)
    process = subprocess.Popen([sys.executable, "-c", _FIT, str(cut.folder)], env={**os.environ})
    while process.poll() is None and not list((cut.folder / "fit").glob("segment_001.*.state")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    heard: list[RunProgress] = []
    cut.fit(heard.append)
    # The first segment was finished, and the second goes on from its 100th step.
    assert heard[0].done == 160 + 120
    for name in ("fit/segment_000.safetensors", "fit/segment_001.safetensors", "canonical/segment_001_layer_0.png"):
        assert (cut.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert not list(cut.folder.rglob("*.state"))


def test_a_bad_fit_is_not_edited_unless_accepted(
    run_folder: Path, red_editor: Editor, run_config: VideoConfig, run_edit: dict[str, Any]
) -> None:
    strict = replace(run_config, minimum_psnr=90.0)
    with pytest.raises(QualityError, match="90 dB or more"):
        VideoRun(run_folder, strict).edit(no_editor, **run_edit, seed=1)
    accepting = VideoRun(run_folder, replace(strict, accept_quality=True))
    assert not accepting.edit(lambda: red_editor, **run_edit, seed=1).was_reused


def test_layers_from_files_are_fitted_apart(
    tmp_path: Path,
    source: Path,
    slide: torch.Tensor,
    red_editor: Editor,
    run_config: VideoConfig,
    run_edit: dict[str, Any],
) -> None:
    red = (slide[:, :1] > 250).to(torch.uint8) * 255
    write_clip(tmp_path / "masks", red.expand(-1, 3, -1, -1), Timeline.steady(8, 12.0))
    config = replace(run_config, layers=LayersConfig(masks=(tmp_path / "masks",)))
    run = VideoRun(tmp_path / "run", config)
    done = do_all(run, source, lambda: red_editor, run_edit)
    assert done.changed_outside == 0 and done.masked > 0.02
    assert run.files.layers == 2 and (tmp_path / "run" / "edit" / "segment_001_layer_1.png").is_file()
    again = VideoRun(tmp_path / "run", config)
    do_all(again, source, no_editor, run_edit)
    assert len(again.reused) == 6
    write_clip(tmp_path / "masks", red.flip(0).expand(-1, 3, -1, -1), Timeline.steady(8, 12.0))
    changed = VideoRun(tmp_path / "run", config)
    changed.prepare(source)
    assert changed.reused == ["frames", "flow"]


def test_a_run_of_another_clip_is_refused(run_folder: Path, tmp_path: Path, slide: torch.Tensor) -> None:
    write_clip(tmp_path / "other", slide[:4], Timeline.steady(4, 12.0))
    with pytest.raises(InputError, match=r"is the run of another clip, .*slide: choose another --run"):
        VideoRun(run_folder).prepare(tmp_path / "other")


def test_a_clip_that_was_moved_is_known_again(
    tmp_path: Path, source: Path, red_editor: Editor, run_config: VideoConfig, run_edit: dict[str, Any]
) -> None:
    VideoRun(tmp_path / "run", run_config).prepare(source)
    (tmp_path / "elsewhere").mkdir()
    moved = source.rename(tmp_path / "elsewhere" / "slide")
    run = VideoRun(tmp_path / "run", run_config)
    run.prepare(moved)
    assert run.reused == ["frames", "flow", "masks"]
    assert run.files.folder.value("source")["path"] == str(moved.resolve())
    run.fit()
    run.edit(lambda: red_editor, **run_edit)
    assert run.render(tmp_path / "out").frames == 8
    again = VideoRun(tmp_path / "run", run_config)
    again.prepare(moved.rename(tmp_path / "slide"))
    assert again.render(tmp_path / "out").was_reused


def test_a_touched_clip_is_read_again_and_not_fitted_again(
    tmp_path: Path, source: Path, run_config: VideoConfig
) -> None:
    run = VideoRun(tmp_path / "run", run_config)
    run.prepare(source)
    run.fit()
    os.utime(next(source.iterdir()), ns=(1, 2**60))
    again = VideoRun(tmp_path / "run", run_config)
    again.prepare(source)
    assert again.fit().was_reused and again.reused == ["flow", "masks", "fit"]


def test_stages_that_lack_what_came_before_say_so(
    tmp_path: Path, slide_folder: Path, red_editor: Editor, run_config: VideoConfig, run_edit: dict[str, Any]
) -> None:
    with pytest.raises(SessionError, match="holds no finished fit"):
        VideoRun(tmp_path / "run")
    run = VideoRun(tmp_path / "run", run_config)
    with pytest.raises(SessionError, match="not prepared"):
        run.fit()
    run.prepare(slide_folder)
    with pytest.raises(SessionError, match="not fitted to the end"):
        run.edit(no_editor, **run_edit)
    run.fit()
    with pytest.raises(SessionError, match="nothing is edited"):
        run.render()
    run.edit(lambda: red_editor, **run_edit)
    other = VideoRun(tmp_path / "run", replace(run_config, fit=FitConfig(steps=31, margin=0.2)))
    other.prepare(slide_folder)
    with pytest.raises(SessionError, match="not fitted to the end"):
        other.edit(no_editor, **run_edit)
    other.fit()
    with pytest.raises(SessionError, match="nothing is edited"):
        other.render()


def test_the_source_is_never_replaced(run_folder: Path, slide_folder: Path) -> None:
    with pytest.raises(InputError, match="would replace the clip"):
        VideoRun(run_folder).render(slide_folder)
