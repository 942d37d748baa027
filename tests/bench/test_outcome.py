"""The metrics of an outcome against hand-computed numbers."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import EditPairs, make_pairs
from maskedit.bench.outcome import Outcome, edit_all, measure_outcome, request_from_pairs, save_sheet
from maskedit.editors import Backbone, BackboneConfig, EditRequest, MDPConfig, load_image, make_editor


@pytest.fixture(scope="module")
def backbone(ip2p_folder: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))


def box(top: int, left: int, size: int = 4) -> torch.Tensor:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[top : top + size, left : left + size] = True
    return mask


BOXES = torch.stack([box(0, 0), box(12, 12)])


@pytest.fixture(scope="module")
def pairs() -> EditPairs:
    """One grey picture in which two boxes become brighter by 0.4."""
    changed = BOXES.any(0)[None, None]
    source = torch.full((1, 3, 16, 16), 0.2)
    return EditPairs(
        specs=make_pairs("test", [0], edits=2, height=16).specs,
        source=source,
        target=source + 0.4 * changed,
        masks=(BOXES,),
        changed=changed,
        source_objects=changed,
        target_objects=changed,
    )


def round_trip(pairs: EditPairs, backbone: Backbone) -> torch.Tensor:
    with torch.no_grad():
        latents = backbone.vae.encode(2 * pairs.source - 1).latent_dist.mode()
        return (backbone.vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)


def measure(pairs: EditPairs, backbone: Backbone, **options) -> dict:
    (row,) = measure_outcome(pairs, Outcome(**{"mask": None, "seconds": 1.0} | options), backbone)
    return row


def test_metrics_are_what_they_say(pairs: EditPairs, backbone: Backbone):
    raw = round_trip(pairs, backbone) + 0.1
    raw[..., box(0, 0)] = 0.5  # A quarter short of its change: error 0.01 of 0.16, followed.
    raw[..., box(12, 12)] = 0.35  # Less than half of its change: error 0.0625 of 0.16, not followed.
    mask = (box(0, 0) | box(0, 4) | box(4, 0, 2)).float()[None, None]
    row = measure(pairs, backbone, raw=raw, kept=pairs.target - 0.1, mask=mask)
    assert row["kind"] == pairs.specs[0].edits[0].kind
    assert row["mask_iou"] == pytest.approx(16 / (16 + 16 + 4 + 16))
    assert row["psnr_inside"] == pytest.approx(-10 * math.log10((0.01 + 0.0625) / 2), abs=1e-3)
    assert row["psnr_outside"] == pytest.approx(20, abs=1e-3)
    assert row["psnr_truth"] == pytest.approx(20, abs=1e-3)
    assert row["followed"] == 0.5
    assert (row["refused"], row["seconds"]) == (0, 1)


def test_a_mask_counts_from_one_half(pairs: EditPairs, backbone: Backbone):
    soft = 0.5 * BOXES.any(0)[None, None] + 0.25 * box(6, 6)[None, None]
    assert measure(pairs, backbone, raw=pairs.source, kept=pairs.source, mask=soft)["mask_iou"] == 1


def test_a_followed_edit_is_under_a_quarter_of_the_error(pairs: EditPairs, backbone: Backbone):
    # The squared error is a quarter where half of the change is missing.
    for missing, followed in ((0.19, 1.0), (0.21, 0.0)):
        raw = pairs.target - missing * pairs.changed
        assert measure(pairs, backbone, raw=raw, kept=raw)["followed"] == followed


def test_a_shadow_beside_a_block_counts_with_its_edit(pairs: EditPairs, backbone: Backbone):
    """A change within two pixels of a silhouette belongs to its edit; one farther away belongs to none."""
    for column, followed in ((5, 0.5), (7, 1.0)):
        changed = pairs.changed.clone()
        changed[..., :4, column] = True
        wider = replace(pairs, changed=changed, target=pairs.source + 0.4 * changed)
        raw = pairs.target.clone()  # The blocks are edited, the shadow is not.
        raw[..., :4, column] = 0.2
        raw[..., :4, :4] -= 0.15
        assert measure(wider, backbone, raw=raw, kept=raw)["followed"] == followed


def test_a_perfect_editor_follows_everything(backbone: Backbone):
    pairs = make_pairs("test", range(2), edits=2)
    rows = measure_outcome(
        pairs, Outcome(raw=pairs.target, kept=pairs.target, mask=pairs.mask.float(), seconds=1.0), backbone
    )
    untouched = round_trip(pairs, backbone)
    for i, row in enumerate(rows):
        assert (row["followed"], row["mask_iou"]) == (1, 1)
        assert row["psnr_inside"] == row["psnr_truth"] == math.inf
        outside = (~pairs.changed[i]).expand(3, -1, -1)
        codec = (untouched[i] - pairs.target[i])[outside].pow(2).mean()
        assert row["psnr_outside"] == pytest.approx(-10 * codec.log10().item(), abs=1e-3)


def test_an_edit_that_nothing_shows_is_not_judged(pairs: EditPairs, backbone: Backbone):
    hidden = replace(pairs, masks=(torch.stack([BOXES[0], box(6, 6)]),))
    for raw, followed in ((pairs.target, 1.0), (pairs.source, 0.0)):
        assert measure(hidden, backbone, raw=raw, kept=raw)["followed"] == followed
    nothing = replace(pairs, masks=(box(6, 6)[None],))
    assert math.isnan(measure(nothing, backbone, raw=pairs.source, kept=pairs.source)["followed"])


def test_requests_carry_the_instructions_of_their_pair():
    pairs = make_pairs("test", range(3), edits=2, height=32)
    request = request_from_pairs(pairs, 1, seed=7, device=torch.device("cpu"))
    assert torch.equal(request.image, pairs.source[1:2])
    assert [(i.text, i.keyword) for i in request.instructions] == [(e.text, e.keyword) for e in pairs.specs[1].edits]
    assert request.seeds == (7,)


def test_what_is_not_understood_counts_as_left_alone(pairs: EditPairs, sd_folder: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(sd_folder), device="cpu"))
    (spec,) = pairs.specs
    vague = replace(pairs, specs=(replace(spec, edits=(replace(spec.edits[0], text="hello", keyword="hello"),)),))
    editor = make_editor(MDPConfig(steps=1, keep_outside="paper"), backbone)
    calls: list[tuple[int, int]] = []

    def make(batch: EditPairs, row: int, seed: int) -> EditRequest:
        return request_from_pairs(batch, row, seed=seed, device=torch.device("cpu"))

    (outcome,) = edit_all([vague], editor, backbone, make, report=lambda *call: calls.append(call))
    assert outcome.refused == {0}
    assert torch.allclose(outcome.raw, round_trip(pairs, backbone), atol=1e-5)
    assert torch.equal(outcome.kept, pairs.source)
    assert calls == [(1, 1)]


def test_sheets_have_a_row_for_each_scene_that_all_columns_have(tmp_path: Path) -> None:
    columns = [torch.full((3, 3, 4, 4), 0.2), torch.full((2, 3, 4, 4), 0.6)]
    save_sheet(columns, tmp_path / "sheet.png")
    sheet = load_image(tmp_path / "sheet.png")
    assert sheet.shape == (1, 3, 16, 16)
    assert sheet[..., :8].mean() < 0.3 < 0.5 < sheet[..., 8:].mean()
