"""The rendered clip, and what is measured on it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import Editor, InputError, load_image
from maskedit.video.fit import FitConfig
from maskedit.video.frames import read_clip
from maskedit.video.metrics import warp_error
from maskedit.video.options import FramesConfig, RenderConfig, VideoConfig
from maskedit.video.rendering import record_to_summary
from maskedit.video.stages import VideoRun


@pytest.fixture
def run_folder(tmp_path: Path, finished_run: Path) -> Path:
    """A finished run of its own for each test."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_outside_the_mask_the_source_keeps_its_bytes(run_folder: Path, tmp_path: Path, slide: torch.Tensor) -> None:
    done = VideoRun(run_folder).render(tmp_path / "out")
    after = read_clip(done.output, size=None).frames
    changed = (slide != after).any(1)
    assert changed.any(2).any(1).all()
    for number, each in enumerate(changed):
        # The square stands at 20 - number; what is blended at its edge reaches a pixel or two farther.
        near = torch.zeros_like(each)
        near[7:25, 20 - number - 3 : 32 - number + 3] = True
        assert not (each & ~near).any()
    assert done.changed_outside == 0 and changed.float().mean() <= done.masked < 0.2


def test_the_warp_error_is_that_of_the_whole_clip(run_folder: Path, tmp_path: Path, slide: torch.Tensor) -> None:
    run = VideoRun(run_folder)
    done = run.render(tmp_path / "out")
    flow = run.files.flow_between(0, 8)
    after = read_clip(done.output, size=None).frames
    for found, frames in ((done.warp_error_source, slide), (done.warp_error_edited, after)):
        # Where segments overlap both know the motion, and both found the same.
        assert found == pytest.approx(warp_error(frames, flow.forward, flow.forward_confident), rel=1e-3)


def test_the_record_is_the_summary(run_folder: Path, tmp_path: Path) -> None:
    done = VideoRun(run_folder).render(tmp_path / "out.gif")
    assert record_to_summary(json.loads((run_folder / "render" / "render.json").read_text())) == done
    assert done.codec == "gif" and done.output.is_file()


def test_the_strip_has_four_panels(finished_run: Path) -> None:
    strip = load_image(finished_run / "render" / "strip.png")
    assert strip.shape[-2] == 32 and strip.shape[-1] >= 4 * 48


def test_a_source_that_has_gone_is_needed_only_at_its_own_size(
    run_folder: Path, tmp_path: Path, slide_folder: Path, run_config: VideoConfig
) -> None:
    source = Path(shutil.copytree(slide_folder, tmp_path / "slide"))
    run = VideoRun(run_folder, run_config)
    run.prepare(source)
    (source / sorted(path.name for path in source.glob("*.png"))[0]).touch()
    with pytest.raises(InputError, match=r"has changed since it was fitted.*--render\.size working"):
        run.render(tmp_path / "out")
    source.rename(tmp_path / "gone")
    with pytest.raises(InputError, match=r"found no such file.*--render\.size working"):
        run.render(tmp_path / "out")
    working = VideoRun(run_folder, replace(run_config, render=RenderConfig(size="working", side_by_side=True)))
    done = working.render(tmp_path / "out")
    assert read_clip(done.output, size=None).frames.shape == (8, 3, 32, 48)
    assert done.side_by_side is not None and read_clip(done.side_by_side, size=None).frames.shape == (8, 3, 32, 96)


def test_sound_is_left_out_where_the_source_has_gone(
    tmp_path: Path,
    slide: torch.Tensor,
    make_video: Callable[..., Path],
    red_editor: Editor,
    run_config: VideoConfig,
    run_edit: dict[str, Any],
) -> None:
    source = make_video(tmp_path / "a.mp4", frames=list(slide.permute(0, 2, 3, 1).numpy()), sound="aac")
    config = replace(run_config, fit=FitConfig(steps=5), accept_quality=True, render=RenderConfig(size="working"))
    run = VideoRun(tmp_path / "run", config)
    run.prepare(source)
    run.fit()
    run.edit(lambda: red_editor, **run_edit)
    source.rename(tmp_path / "gone.mp4")
    done = run.render()
    assert done.sound == "left out" and done.warnings[-1].endswith("a.mp4 has gone or changed since it was fitted")
    assert run.render().was_reused
    (tmp_path / "gone.mp4").rename(source)
    assert run.render().sound == "copied"
    source.unlink()
    # What was rendered with sound is not made again without.
    again = run.render()
    assert again.was_reused and again.sound == "copied"


def test_frames_fitted_small_are_rendered_large(
    tmp_path: Path, slide_folder: Path, red_editor: object, run_config: VideoConfig, run_edit: dict[str, object]
) -> None:
    run = VideoRun(tmp_path / "run", replace(run_config, frames=FramesConfig(size=36)))
    assert run.prepare(slide_folder).width == 36
    run.fit()
    run.edit(lambda: red_editor, **run_edit)  # type: ignore[arg-type, return-value]
    done = run.render(tmp_path / "out")
    assert read_clip(done.output, size=None).frames.shape == (8, 3, 32, 48)
    assert done.changed_outside == 0 and done.masked > 0.01


def test_a_few_frames_at_once_give_the_same(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = VideoRun(run_folder).render(tmp_path / "one")
    monkeypatch.setattr("maskedit.video.rendering._PIXELS_AT_ONCE", 3 * 32 * 48)
    other = VideoRun(run_folder).render(tmp_path / "other")
    assert torch.equal(*(read_clip(each.output, size=None).frames for each in (one, other)))
    assert one.warp_error_edited == other.warp_error_edited and one.masked == other.masked
