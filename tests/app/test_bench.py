"""`maskedit bench` measures, prints and writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_foi_bench_writes_its_figures(call: Callable[..., Any], ip2p_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "figures" / "foi.json"
    small = ["--scenes", 2, "--batch", 2, "--ablation-scenes", 0, "--foi.steps", 2, "--ip2p.steps", 2]
    done = call("bench", "foi", "--model", ip2p_folder, "--json", target, *small)
    assert done.code == 0, done.err
    document = json.loads(target.read_text())
    assert document["bench"] == "foi"
    assert {row["method"] for row in document["rows"]} == {"unedited", "ip2p", "foi"}
    assert "unedited" in done.out
    assert "followed" in done.out
    assert str(target) in done.out


def test_brush_bench_writes_its_figures(call: Callable[..., Any], ip2p_folder: Path, tmp_path: Path) -> None:
    target, out = tmp_path / "brush.json", tmp_path / "out"
    small = ["--edits", "stripes", "--methods", "unedited", "instructbrush", "--shots", 1, "--pairs", 1]
    steps = ["--test-pairs", 1, "--steps", 1, "--sampling-steps", 2]
    done = call("bench", "brush", "--model", ip2p_folder, "--json", target, "--out", out, *small, *steps)
    assert done.code == 0, done.err
    document = json.loads(target.read_text())
    assert [(row["method"], row["set"]) for row in document["rows"]] == [
        *(("unedited", "all"), ("instructbrush", "all")),
        *(("unedited", "local"), ("instructbrush", "local")),
    ]
    assert json.loads((out / "figures.json").read_text())["rows"] == document["rows"]
    assert "instructbrush" in done.out


def test_instructedit_bench_writes_its_figures(
    call: Callable[..., Any], sd_folder: Path, clipseg_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "instructedit.json"
    (tmp_path / "stable-diffusion-v1-5").symlink_to(sd_folder)
    where = ["--model", None, "--model-dir", tmp_path, "--json", target, "--editors", "instructedit"]
    small = ["--scenes", 1, "--ratio-scenes", 0, "--inversion-scenes", 0, "--instructedit.steps", 2]
    segmenter = ["segmenter", "clipseg", "clipseg", clipseg_folder, "mask-threshold", 0.45]
    options = [f"--instructedit.grounding.{word}" if i % 2 == 0 else word for i, word in enumerate(segmenter)]
    done = call("bench", "instructedit", *where, *small, *options)
    assert done.code == 0, done.err
    document = json.loads(target.read_text())
    assert document["bench"] == "instructedit"
    assert {row["method"] for row in document["rows"]} == {"unedited", "instructedit", "instructedit-true"}
    assert "instructedit-true" in done.out


def test_language_bench_reads_the_cases_it_is_given(call: Callable[..., Any], tmp_path: Path) -> None:
    target, cases = tmp_path / "language.json", tmp_path / "mine.json"
    case = {"instruction": "make the red cube blue", "kind": "recolor", "phrases": ["red cube"], "texts": 1}
    cases.write_text(json.dumps([case, {**case, "phrases": ["cube"]}]))
    done = call("bench", "language", "--cases", cases, "--json", target, "--failures")
    assert done.code == 0, done.err
    document = json.loads(target.read_text())
    row = document["rows"][0]
    assert (row["method"], row["set"], row["cases"], row["right"]) == ("rules", "mine", 2, 0.5)
    assert [failure["wrong"] for failure in document["failures"]] == [["phrases"]]
    call("bench", "language", "--cases", cases, "--json", target)
    assert "failures" not in json.loads(target.read_text())


def test_the_language_bench_measures_held_out_cases_by_default(call: Callable[..., Any]) -> None:
    done = call("bench", "language")
    assert done.code == 0, done.err
    assert "held_out/recolor" in done.out


def test_flags_the_language_provider_does_not_read_are_refused(call: Callable[..., Any]) -> None:
    done = call("bench", "language", "--model", "m")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "the provider rules reads no --model: leave it out, or pass --provider chat or openai" in done.err


def test_a_chat_model_is_looked_for_in_the_model_folder(call: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    chat = ["--provider", "chat", "--model", "owner/mine", "--model-dir", tmp_path, "--offline"]
    done = call("bench", "language", *chat)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"no config.json in {tmp_path / 'mine'}" in done.err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_scene_bench_writes_its_figures_and_keeps_them(
    call: Callable[..., Any], ip2p_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "scene.json"
    small = ["--scenes", 1, "--views", 5, "--held-out", 1, "--size", 16, "--base-steps", 1, "--edit-steps", 40]
    where = ["--model", ip2p_folder, "--json", target, "--out", tmp_path / "kept"]
    done = call("bench", "scene", *where, *small, "--methods", "true-edit", "--ip2p.steps", 2)
    assert done.code == 0, done.err
    document = json.loads(target.read_text())
    assert document["bench"] == "scene"
    assert [row["method"] for row in document["rows"]] == ["unedited", "truth", "true-edit"]
    assert "true-edit" in done.out
    assert (tmp_path / "kept" / "scene_000" / "true-edit.png").is_file()
    refused = call("bench", "scene", *where, *small, "--methods", "true-edit", "--ip2p.steps", 3)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "was begun with ip2p" in refused.err


def test_scene_speed_bench_writes_its_figures(call: Callable[..., Any], ip2p_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "speed.json"
    small = ["--size", 64, "--steps", 2, "--rounds", 1, "--batches", 2]
    done = call("bench", "scene-speed", "--model", ip2p_folder, "--json", target, *small)
    assert done.code == 0, done.err
    rows = json.loads(target.read_text())["rows"]
    assert [(row["method"], row["views"]) for row in rows] == [("in2n", 1), ("ip2p", 2), ("foi", 2)]


def test_video_bench_writes_its_figures(call: Callable[..., Any], ip2p_folder: Path, tmp_path: Path) -> None:
    target, sheets = tmp_path / "video.json", tmp_path / "sheets"
    small = ["--clips", 1, "--frames", 3, "--size", 64, "--foi.steps", 2, "--fit.steps", 2, "--transfers", "replace"]
    where = ["--model", ip2p_folder, "--json", target, "--pictures", sheets, "--flow.method", "dis"]
    done = call("bench", "video", *where, *small)
    assert done.code == 0, done.err
    document = json.loads(target.read_text())
    methods = ["unedited", "truth", "foi/per-frame", "foi/canonical-replace", "true-edit/canonical-replace"]
    assert [row["method"] for row in document["rows"]] == methods
    assert [path.name for path in sheets.iterdir()] == ["foi_000.png"]
    assert "foi/per-frame" in done.out


def test_video_fields_bench_writes_its_figures(call: Callable[..., Any], tmp_path: Path) -> None:
    target = tmp_path / "fields.json"
    small = ["--methods", "dense", "--seconds", 0.1, "--steps", 2, "--frames", 3, "--size", 32]
    done = call("bench", "video-fields", "--json", target, "--device", "cpu", "--flow.method", "dis", *small)
    assert done.code == 0, done.err
    row = json.loads(target.read_text())["rows"][0]
    assert (row["method"], row["set"]) == ("dense", "blocks 32")
    assert row["psnr_0.1s"] > 20 < row["psnr_2"]


def test_smartedit_bench_writes_its_figures_and_says_what_it_left_out(
    call: Callable[..., Any], ip2p_folder: Path, tmp_path: Path
) -> None:
    target, out = tmp_path / "smartedit.json", tmp_path / "out"
    small = ["--scenes", 1, "--sets", "reasoning", "--phrasings", "held-out", "--methods", "truth", "ip2p"]
    where = ["--model", ip2p_folder, "--json", target, "--out", out]
    done = call("bench", "smartedit", *where, *small, "--ip2p.steps", 2)
    assert done.code == 0, done.err
    document = json.loads(target.read_text())
    assert [(row["method"], row["set"], row["phrasing"]) for row in document["rows"]] == [
        ("truth", "reasoning", "held-out"),
        ("ip2p", "reasoning", "held-out"),
    ]
    assert json.loads((out / "figures.json").read_text())["rows"] == document["rows"]
    assert "note: clip is left out: pass --clip embedded" in done.out
    refused = call("bench", "smartedit", *where, *small, "--methods", "smartedit")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "pass --smartedit-model FOLDER, or leave smartedit out of --methods" in refused.err


def test_unwritable_targets_are_refused_before_measuring(call: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = call("bench", "speed", "--json", tmp_path / "file" / "speed.json")
    assert done.code == 2
    assert "choose another --json" in done.err


def test_the_embedded_set_is_what_is_measured_by_default(call: Callable[..., Any]) -> None:
    for bench in ("brush", "foi", "instructedit", "scene", "smartedit", "video"):
        assert "(default: embedded)" in call("bench", bench, "--help").out
