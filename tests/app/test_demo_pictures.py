"""The demo's figures, against pictures whose errors are known."""

import math
from pathlib import Path

import pytest
import torch

from maskedit.app.demo_pictures import (
    describe_pictures,
    edit_pictures,
    mean_iou,
    region_psnrs,
    save_strips,
    share_followed,
)
from maskedit.bench.blocks import make_pairs
from maskedit.editors import Backbone, BackboneConfig, load_image


def test_errors_count_where_they_are() -> None:
    truth = torch.full((2, 3, 4, 4), 0.5)
    changed = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    changed[..., :2] = True
    image = truth + 0.1 * changed
    found = region_psnrs(image, truth, changed)
    assert found["psnr_inside"] == pytest.approx(20, abs=1e-4)
    assert found["psnr_outside"] is None
    assert found["psnr_whole"] == pytest.approx(20 + 10 * math.log10(2), abs=1e-4)
    assert region_psnrs(image, truth, torch.zeros_like(changed))["psnr_inside"] is None


def test_masks_are_compared_picture_by_picture() -> None:
    mask, truth = torch.zeros(3, 1, 2, 2, dtype=torch.bool), torch.zeros(3, 1, 2, 2, dtype=torch.bool)
    mask[0, 0, 0], truth[0, 0, :, 0] = True, True
    truth[1] = True
    assert mean_iou(mask, truth) == pytest.approx((1 / 3 + 0 + 1) / 3)


def test_only_the_truth_follows_the_instruction() -> None:
    pairs = make_pairs("test", range(2), height=32)
    assert share_followed(pairs.target, pairs) == 1
    assert share_followed(pairs.source, pairs) == 0
    half = torch.cat([pairs.target[:1], pairs.source[1:]])
    assert share_followed(half, pairs) == 0.5


@pytest.mark.parametrize("instructions", [1, 2])
def test_pictures_are_edited_measured_and_shown(instructions: int, ip2p_folder: Path, tmp_path: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder)))
    backbone.preset = type(backbone.preset)(steps=2)
    steps: list[int] = []
    found = edit_pictures(backbone, instructions=instructions, count=2, step=steps.append)
    assert sum(steps) == 4
    outside = found.foi.mask == 0
    assert torch.equal(found.kept[outside.expand_as(found.kept)], found.pairs.source[outside.expand_as(found.kept)])
    assert found.figures["unedited"]["followed"] == 0
    assert found.figures["ip2p"]["mask_iou"] is None
    kept, raw = (found.figures[name]["psnr_outside"] for name in ("foi", "foi, outside not put back"))
    assert kept is not None
    assert raw is not None
    assert kept >= raw
    save_strips(found, tmp_path)
    assert len(list(tmp_path.glob("*_foi.png"))) == len(list(tmp_path.glob("*_ip2p.png"))) == 2
    assert load_image(next(tmp_path.glob("*_foi.png"))).shape[-2:] == (64, 3 * 64 + 8)
    table, gallery = describe_pictures(found).parts
    assert [row[0] for row in table.rows] == list(found.figures)
    assert [row[0] for row in gallery.rows] == [spec.instruction for spec in found.pairs.specs]
