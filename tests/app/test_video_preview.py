"""Where an edit of a clip would act: the editor's own masks, in a rough fit that is not kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.app.video_preview import MaskFinder, preview_edit
from maskedit.editors import (
    Backbone,
    BackboneConfig,
    EditRequest,
    FoIConfig,
    Instruction,
    IP2PConfig,
    load_image,
    load_mask,
    make_editor,
)
from maskedit.video.editing import EditedClip, edit_segments
from maskedit.video.fit import FitConfig
from maskedit.video.flow import FlowConfig
from maskedit.video.frame_mask import FrameMask
from maskedit.video.options import VideoConfig
from maskedit.video.stages import VideoRun

TEXT = (Instruction(text="make the cube blue", keyword="cube"),)


@pytest.fixture
def backbone(ip2p_folder: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ip2p_folder)))


@pytest.fixture
def run(clip: Path, tmp_path: Path) -> VideoRun:
    config = VideoConfig(flow=FlowConfig(method="dis"), fit=FitConfig(steps=2), minimum_psnr=0.0)
    found = VideoRun(tmp_path / "run", config)
    found.prepare(clip)
    return found


def test_masks_are_those_of_the_editor_and_pictures_stay(backbone: Backbone) -> None:
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    request = EditRequest(image=picture, instructions=TEXT)
    editor = make_editor(FoIConfig(steps=2), backbone)
    result = MaskFinder(editor, has_mask=True).edit(request)
    assert torch.equal(result.image, picture)
    assert torch.equal(result.mask, editor.find_masks(editor.plan(request))[0])
    anywhere = MaskFinder(make_editor(IP2PConfig(steps=2), backbone), has_mask=False)
    assert bool((anywhere.edit(request).mask == 1).all())


def test_a_rough_fit_is_timed_and_not_kept(backbone: Backbone, run: VideoRun, tmp_path: Path) -> None:
    editor = make_editor(FoIConfig(steps=2), backbone)
    found = preview_edit(run, editor, TEXT)
    assert found.fit_seconds > 0 and found.render_seconds > 0
    assert not (run.folder / "fit").exists()
    overlay, mask = found.write(tmp_path / "out", "walk")
    assert torch.equal(load_mask(mask) > 0.5, found.mask > 0.5)
    assert load_image(overlay).shape == found.sheet.shape
    line = found.describe(tmp_path / "out", "walk")
    assert "fitting about" in line and str(overlay) in line


def test_a_finished_fit_is_used(backbone: Backbone, run: VideoRun) -> None:
    run.fit()
    found = preview_edit(run, make_editor(FoIConfig(steps=2), backbone), TEXT)
    assert found.fit_seconds == 0
    assert "nothing left to fit" in found.describe(run.folder, "walk")


def test_pictures_are_searched_as_the_edit_would_arrange_them(
    backbone: Backbone, run: VideoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []

    def note(*given: Any, **options: Any) -> EditedClip:
        told.append(options["arrange"])
        return edit_segments(*given, **options)

    monkeypatch.setattr("maskedit.app.video_preview.edit_segments", note)
    for options in ({}, {"arrange": "batch"}):
        preview_edit(run, make_editor(FoIConfig(steps=2), backbone), TEXT, **options)
    assert told == ["sheet", "batch"]


def test_a_painted_mask_is_shown_where_it_lies(backbone: Backbone, run: VideoRun) -> None:
    painted = torch.zeros(1, 1, 24, 32)
    painted[..., :16] = 1
    editor = make_editor(IP2PConfig(steps=2), backbone)
    found = preview_edit(run, editor, TEXT, mask=FrameMask(frame=2, mask=painted), has_mask=False)
    share = float((found.mask > 0).float().mean())
    assert 0.3 < share < 0.6
    columns = (found.mask > 0).float().mean((0, 1, 2))
    # The frame does not show the two columns on the far left, which others do.
    assert columns[3:15].mean() > 0.9
    assert columns[-10:].mean() < 0.1
