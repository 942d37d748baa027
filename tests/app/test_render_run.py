"""Rendering a finished run before its first edit and after its last."""

from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.app.render_run import RunRenderer
from maskedit.editors import SessionError


@pytest.mark.slow
def test_both_moments_of_a_run_can_be_rendered(scene_run: Any) -> None:
    renderer = RunRenderer(scene_run.run)
    camera = scene_run.result.truth.cameras[scene_run.result.truth.held_out[0]]
    renderer.load("before")
    before = renderer.render(camera, 64)
    renderer.load("after")
    after = renderer.render(camera, 64)
    assert torch.allclose(before, scene_run.result.before[:1], atol=1e-4)
    assert torch.allclose(after, scene_run.result.after[:1], atol=1e-4)
    assert renderer.render(camera, 16).shape == (1, 3, 16, 16)


@pytest.mark.slow
def test_the_edits_of_a_run_are_found(scene_run: Any) -> None:
    strips = RunRenderer(scene_run.run).strips()
    assert len(strips) == 2
    assert all(strip.is_file() for strip in strips)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no edit session"):
        RunRenderer(tmp_path)
