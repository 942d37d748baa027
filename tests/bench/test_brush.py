"""The bench of brushes: a whole run on a tiny random checkpoint, its tables, and what it leaves behind."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maskedit.bench.brush import METHODS, BrushBenchConfig, choose_sets, run_brush_bench
from maskedit.bench.brush_edits import EDITS
from maskedit.bench.brush_sets import blocks_set
from maskedit.editors import Backbone, BackboneConfig, InputError, load_image

CONFIG = BrushBenchConfig(edits=("stripes",), shots=(2, 1), pairs=2, test_pairs=2, steps=2, sampling_steps=2)


@pytest.fixture(scope="module")
def backbone(ip2p_folder: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))


@pytest.mark.slow
def test_a_whole_run(backbone: Backbone, clip_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    config = replace(CONFIG, out=tmp_path, clip=str(clip_folder), split="validation")
    document = run_brush_bench(backbone, config, progress=lambda *now: seen.append(now))
    assert {label for label, *_ in seen} == {
        *(f"stripes, {method}, 2 pairs" for method in METHODS[3:]),
        *(f"stripes, {method}, 1 pair" for method in ("visii", "instructbrush")),
    }
    rows = {(row["method"], row["shots"], row["set"]): row for row in document["rows"]}
    assert {name for _, _, name in rows} == {"all", "local"}
    assert rows["instructbrush", 2, "all"] == rows["instructbrush", 2, "local"] | {"set": "all"}
    assert {shots for method, shots, _ in rows if method.startswith("without")} == {2}
    for (method, shots, _), row in rows.items():
        assert (row["seconds_sample"] is None) == (shots is None)
        assert (row["direct"] is None) == (method == "unedited")
        assert row["psnr"] > 0
    assert json.loads((tmp_path / "figures.json").read_text())["rows"] == document["rows"]
    assert document["by_edit"][0] | {"psnr": 0, "ssim": 0} == {
        **dict.fromkeys(("shots", "lpips", "direct")),
        "edit": "stripes",
        "scope": "local",
        "method": "unedited",
        "psnr": 0,
        "ssim": 0,
    }
    # Two rows of before, truth, the three methods that learn nothing and those that learn, at twice their size.
    assert load_image(tmp_path / "stripes" / "strips_2.png").shape[-2:] == (256, 128 * 10)
    assert load_image(tmp_path / "stripes" / "strips_1.png").shape[-2:] == (256, 128 * 7)
    assert (tmp_path / "pairs" / "stripes" / "test" / "1_1.png").is_file()
    seen.clear()
    assert run_brush_bench(backbone, config, progress=lambda *now: seen.append(now))["rows"] == document["rows"]
    assert not seen


def test_global_and_local_edits_are_told_apart(backbone: Backbone, tmp_path: Path) -> None:
    config = replace(CONFIG, out=tmp_path, edits=("faded", "domes"), methods=("unedited", "round-trip"))
    rows = {(row["set"], row["method"]): row for row in run_brush_bench(backbone, config)["rows"]}
    assert [rows[name, "unedited"]["edits"] for name in ("all", "global", "local")] == [2, 1, 1]
    both = (rows["global", "unedited"]["psnr"] + rows["local", "unedited"]["psnr"]) / 2
    assert rows["all", "unedited"]["psnr"] == pytest.approx(both)


def test_a_folder_of_pairs_is_measured_in_place_of_the_blocks_world(backbone: Backbone, tmp_path: Path) -> None:
    blocks_set(EDITS["faded"], train=2, test=1, split="validation", height=64).save(tmp_path / "mine")
    config = replace(CONFIG, out=tmp_path / "out", edits=(), top_bench=tmp_path / "mine", methods=("unedited",))
    (edit,) = choose_sets(backbone, config)
    assert (edit.name, edit.train.before.shape) == ("faded", (2, 3, 64, 64))
    assert run_brush_bench(backbone, config)["by_edit"][0]["edit"] == "faded"
    with pytest.raises(InputError, match="faded has 2 pairs to learn from, got 3 shots"):
        run_brush_bench(backbone, replace(config, shots=(3,), pairs=3))


def test_unknown_edits_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected --edits among faded, dusk"):
        run_brush_bench(backbone, replace(CONFIG, out=tmp_path, edits=("nonsense",)))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("methods", (), "methods must name at least one, got none"),
        ("shots", (), "shots must each be at least 1"),
        ("shots", (2, 0), "shots must each be at least 1"),
        ("shots", (11,), "pairs must be at least 11, the largest of shots, got 10"),
        ("test_pairs", 0, "test_pairs must be at least 1, got 0"),
        ("size", 16, "size must be at least 32, got 16"),
        ("sampling_steps", 0, "sampling_steps must be at least 1, got 0"),
        ("steps", 0, "steps must be at least 1, got 0"),
    ],
)
def test_impossible_numbers_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BrushBenchConfig(**{name: value})  # pyright: ignore[reportArgumentType]
