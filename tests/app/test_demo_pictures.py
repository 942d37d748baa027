"""The demo's pictures: edited, measured as the bench measures, and shown."""

import math
from pathlib import Path

import pytest
import torch

from maskedit.app.demo_pictures import (
    describe_pictures,
    edit_pictures,
    save_strips,
)
from maskedit.bench.outcome import METRICS, measure_outcome
from maskedit.editors import Backbone, BackboneConfig, CheckpointPreset, InstructPreset, load_image


@pytest.mark.parametrize("instructions", [1, 2])
def test_pictures_are_edited_measured_and_shown(instructions: int, ip2p_folder: Path, tmp_path: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder)))
    backbone.preset = CheckpointPreset(instruct=InstructPreset(steps=2))
    steps: list[int] = []
    found = edit_pictures(backbone, instructions=instructions, count=2, step=steps.append)
    assert sum(steps) == 4
    assert found.foi.mask is not None
    outside = (found.foi.mask == 0).expand_as(found.foi.kept)
    assert torch.equal(found.foi.kept[outside], found.pairs.source[outside])
    assert found.figures["unedited"]["followed"] == 0
    assert found.figures["ip2p"]["mask_iou"] is None
    for method, outcome in (("ip2p", found.ip2p), ("foi", found.foi)):
        # The metrics are the bench's own.
        rows = measure_outcome(found.pairs, outcome, backbone)
        for metric in METRICS:
            values = [value for row in rows if math.isfinite(value := float(row[metric] or 0.0))]
            expected = sum(values) / len(values) if values else None
            assert found.figures[method][metric] == pytest.approx(expected)
    save_strips(found, tmp_path)
    assert len(list(tmp_path.glob("*_foi.png"))) == len(list(tmp_path.glob("*_ip2p.png"))) == 2
    assert load_image(next(tmp_path.glob("*_foi.png"))).shape[-2:] == (64, 3 * 64 + 8)
    table, gallery = describe_pictures(found).parts
    assert [row[0] for row in table.rows] == list(found.figures)
    assert [row[0] for row in gallery.rows] == [spec.instruction for spec in found.pairs.specs]
