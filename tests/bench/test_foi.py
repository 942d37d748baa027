"""The FoI bench: whole runs on a tiny random checkpoint."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.foi import FoIBenchConfig, held_out_pairs, run_foi_bench
from maskedit.bench.outcome import METRICS
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


@pytest.mark.parametrize(("name", "value"), [("scenes", 0), ("batch", 0), ("ablation_scenes", -1)])
def test_impossible_numbers_are_refused(name: str, value: int):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        FoIBenchConfig(**{name: value})
