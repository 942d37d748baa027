"""The FoI bench: its metrics against hand-computed numbers, and whole runs on a tiny random checkpoint."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import EditPairs, make_pairs
from maskedit.bench.foi import (
    METRICS,
    FoIBenchConfig,
    Outcome,
    held_out_pairs,
    measure_outcome,
    request_from_pairs,
    run_foi_bench,
)
from maskedit.bench.table import write_json
from maskedit.editors import Backbone, BackboneConfig, FoIConfig, IP2PConfig, load_image

FAST = {"steps": 2, "sampler": "ddim"}
CONFIG = FoIBenchConfig(scenes=2, batch=2, ablation_scenes=0, ip2p=IP2PConfig(**FAST), foi=FoIConfig(**FAST))


@pytest.fixture(scope="module")
def backbone(ip2p_folder: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))


@pytest.fixture(scope="module")
def document(backbone: Backbone) -> dict:
    return run_foi_bench(backbone, CONFIG)


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
    pairs = held_out_pairs(2, 2, 64, 2)[0]
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


def test_a_run_has_the_form_of_every_bench(document: dict, backbone: Backbone, tmp_path: Path):
    assert list(document) == ["bench", "machine", "rows", "model"]
    assert (document["bench"], document["model"], document["machine"]["device"]) == ("foi", backbone.name, "cpu")
    for row in document["rows"]:
        assert list(row) == ["method", "set", "pictures", *METRICS]
    write_json(document, tmp_path / "foi.json")
    assert json.loads((tmp_path / "foi.json").read_text()) == document


def test_every_method_is_measured_on_every_set(document: dict):
    rows = {(row["method"], row["set"]): row for row in document["rows"]}
    assert len(rows) == len(document["rows"])
    kinds = {f"one/{spec.edits[0].kind}" for spec in held_out_pairs(2, 1, 64, 2)[0].specs}
    for method in ("unedited", "ip2p", "foi"):
        assert {name for own, name in rows if own == method} == {"one", "two", *kinds}
        assert rows[method, "one"]["pictures"] == sum(rows[method, kind]["pictures"] for kind in kinds) == 2
    for name in ("one", "two"):
        unedited, ip2p, foi = (rows[method, name] for method in ("unedited", "ip2p", "foi"))
        assert (unedited["followed"], unedited["mask_iou"], unedited["psnr_outside"]) == (0, None, None)
        assert ip2p["mask_iou"] is None
        assert 0 <= foi["mask_iou"] <= 1
        assert unedited["seconds"] == 0 < min(ip2p["seconds"], foi["seconds"])
        # Untrained networks make noise of a whole picture, so keeping what is outside a mask helps.
        assert unedited["psnr_truth"] > foi["psnr_truth"] > ip2p["psnr_truth"]


def figures(document: dict) -> dict[str, float]:
    """Every figure but the seconds, by method, set and metric; -1 for null."""
    return {
        f"{row['method']} {row['set']} {name}": -1 if row[name] is None else row[name]
        for row in document["rows"]
        for name in ("pictures", *METRICS)
        if name != "seconds"
    }


def test_figures_repeat_whatever_the_batch(document: dict, ip2p_folder: Path):
    fresh = Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))
    calls: list[tuple[str, int, int]] = []
    again = run_foi_bench(fresh, replace(CONFIG, batch=1), progress=lambda *call: calls.append(call))
    assert figures(again) == pytest.approx(figures(document), rel=1e-4)
    assert calls[:4] == [
        ("ip2p, one instruction(s)", 1, 2),
        ("ip2p, one instruction(s)", 2, 2),
        ("foi, one instruction(s)", 1, 2),
        ("foi, one instruction(s)", 2, 2),
    ]


def test_ablations_cover_the_papers_tables(backbone: Backbone):
    config = replace(CONFIG, scenes=1, ablation_scenes=1, foi=FoIConfig(**FAST, rerun_first_step=True))
    rows = [row for row in run_foi_bench(backbone, config)["rows"] if "=" in row["set"]]
    shares = {
        "extract_at": ("0", "0.25", "0.5", "0.75", "0.95"),
        "modulation_end": ("0.05", "0.25", "0.5", "0.75", "1"),
        "disentangle_end": ("0.05", "0.25", "0.5", "0.75", "1"),
    }
    assert [row["set"] for row in rows] == [f"two, {option}={v}" for option, own in shares.items() for v in own]
    assert {row["method"] for row in rows} == {"foi"}
    assert all(row["pictures"] == 1 for row in rows)
    assert len({row["psnr_inside"] for row in rows}) > 3


def test_a_picture_without_a_peak_counts_as_left_alone(ip2p_folder: Path):
    blind = Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))
    for name, weight in blind.unet.named_parameters():
        if "attn2.to_q" in name:
            weight.zero_()
    rows = {(row["method"], row["set"]): row for row in run_foi_bench(blind, CONFIG)["rows"]}
    foi, unedited = rows["foi", "one"], rows["unedited", "one"]
    assert (foi["refused"], rows["ip2p", "one"]["refused"]) == (1, 0)
    assert (foi["followed"], foi["mask_iou"], foi["psnr_outside"]) == (0, 0, None)
    assert foi["psnr_truth"] == pytest.approx(unedited["psnr_truth"])


def test_contact_sheets_show_six_pictures_a_scene(backbone: Backbone, tmp_path: Path):
    run_foi_bench(backbone, replace(CONFIG, pictures=tmp_path / "sheets"))
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["foi_one.png", "foi_two.png"]
    sheet = load_image(tmp_path / "sheets" / "foi_one.png")
    assert sheet.shape == (1, 3, 2 * 128, 6 * 128)
    source = held_out_pairs(2, 1, 64, 2)[0].source
    shrunk = torch.nn.functional.avg_pool2d(sheet[..., :128, :128], 2)
    assert (shrunk - source[:1]).abs().mean() < 0.02


def test_requests_carry_the_instructions_of_their_pair():
    pairs = held_out_pairs(3, 2, 32, 3)[0]
    request = request_from_pairs(pairs, 1, seed=7, device=torch.device("cpu"))
    assert torch.equal(request.image, pairs.source[1:2])
    assert [(i.text, i.keyword) for i in request.instructions] == [(e.text, e.keyword) for e in pairs.specs[1].edits]
    assert request.seeds == (7,)


@pytest.mark.parametrize(("name", "value"), [("scenes", 0), ("batch", 0), ("ablation_scenes", -1)])
def test_impossible_numbers_are_refused(name: str, value: int):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        FoIBenchConfig(**{name: value})
