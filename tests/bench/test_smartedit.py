"""The bench of SmartEdit: whole runs on tiny random checkpoints and on the embedded set, and what they leave."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.smartedit import load_judge, run_smartedit_bench
from maskedit.bench.smartedit_options import SmartEditBenchConfig
from maskedit.editors import BackboneConfig, InputError, IP2PConfig, ModelError, SmartEditConfig, load_image

SMALL = SmartEditBenchConfig(
    scenes=2,
    split="validation",
    methods=("unedited", "ip2p", "smartedit"),
    ip2p=IP2PConfig(steps=2),
    smartedit=SmartEditConfig(steps=2),
)
EMBEDDED = BackboneConfig(model="embedded", offline=True, device="cpu")


@pytest.fixture
def tiny(ip2p_folder: Path) -> BackboneConfig:
    return BackboneConfig(model=str(ip2p_folder), device="cpu")


@pytest.mark.slow
def test_a_whole_run(tiny: BackboneConfig, smartedit_checkpoint: Path, clip_folder: Path, tmp_path: Path) -> None:
    config = replace(
        SMALL,
        out=tmp_path,
        scenes=1,
        sets=("understanding",),
        smartedit_model=str(smartedit_checkpoint),
        variants=(f"tuned={tiny.model}",),
        clip=str(clip_folder),
    )
    seen: list[tuple[str, int, int]] = []
    document = run_smartedit_bench(tiny, config, progress=lambda *now: seen.append(now))
    methods = ("unedited", "ip2p", "smartedit", "tuned")
    assert [(row["method"], row["phrasing"]) for row in document["rows"]] == [
        (method, phrasing) for phrasing in ("known", "held-out") for method in methods
    ]
    assert {label for label, *_ in seen} == {
        *(f"rendering understanding, {phrasing}" for phrasing in ("known", "held-out")),
        *(f"{m}, understanding, {phrasing}" for m in methods[1:] for phrasing in ("known", "held-out")),
    }
    rows = {(row["method"], row["phrasing"]): row for row in document["rows"]}
    # The variant is the same checkpoint by another name.
    same = {**rows["ip2p", "known"], "method": "tuned", "seconds": 0}
    assert {**rows["tuned", "known"], "seconds": 0} == same
    assert rows["smartedit", "known"]["psnr"] != rows["ip2p", "known"]["psnr"]
    assert all(0 <= row["clip"] <= 100 for row in document["rows"])
    assert document["checkpoints"] == {"ip2p": tiny.model, "smartedit": str(smartedit_checkpoint), "tuned": tiny.model}
    assert [note.split(" is ")[0] for note in document["notes"]] == ["lpips"]
    assert json.loads((tmp_path / "figures.json").read_text()) == document
    # Before, the truth and three methods, at twice their size.
    assert load_image(tmp_path / "understanding_held-out" / "strips.png").shape == (1, 3, 128, 5 * 128)
    seen.clear()
    assert run_smartedit_bench(tiny, config, progress=lambda *now: seen.append(now))["rows"] == document["rows"]
    assert all(label.startswith("rendering") for label, *_ in seen)


@pytest.mark.slow
def test_the_embedded_editor_is_measured_end_to_end(tmp_path: Path) -> None:
    config = SmartEditBenchConfig(
        out=tmp_path,
        scenes=4,
        sets=("understanding",),
        phrasings=("known",),
        methods=("unedited", "truth", "ip2p"),
        ip2p=IP2PConfig(steps=10),
        clip="embedded",
    )
    unedited, truth, ip2p = run_smartedit_bench(EMBEDDED, config)["rows"]
    assert (unedited["followed"], truth["followed"], unedited["exact"]) == (0, 1, 1)
    # The embedded editor changes something, and less of the background than a random one would.
    assert 18 < ip2p["psnr"] < truth["psnr"]
    assert ip2p["ssim"] < truth["ssim"] < unedited["ssim"] == pytest.approx(1, abs=1e-3)
    # What the label names is there after the true edit, and was not before.
    assert truth["clip"] > unedited["clip"] + 5
    assert ip2p["refused"] == 0


def test_reason_edit_is_measured_in_place_of_the_blocks_world(
    tiny: BackboneConfig, reason_edit_folder: Path, tmp_path: Path
) -> None:
    config = replace(SMALL, out=tmp_path, methods=("unedited", "ip2p"), reason_edit=reason_edit_folder)
    document = run_smartedit_bench(tiny, config)
    assert [(row["set"], row["method"], row["pictures"]) for row in document["rows"]] == [
        *(("understanding", "unedited", 3), ("understanding", "ip2p", 3)),
        *(("reasoning", "unedited", 1), ("reasoning", "ip2p", 1)),
    ]
    said = " | ".join(document["notes"])
    for part in ("lpips is left out", "openai/clip-vit-large-patch14", "ins-align is what people say", "4 of 219"):
        assert part in said
    with pytest.raises(InputError, match="no Reason-Edit in"):
        run_smartedit_bench(tiny, replace(config, reason_edit=tmp_path))


def test_what_is_missing_is_told_before_anything_is_rendered(tiny: BackboneConfig, tmp_path: Path) -> None:
    config = replace(SMALL, out=tmp_path, smartedit_model=str(tmp_path / "none"))
    with pytest.raises(ModelError, match="pass --smartedit-model FOLDER"):
        run_smartedit_bench(tiny, config, progress=lambda *now: pytest.fail(f"told of {now}"))
    with pytest.raises(ModelError, match="nothing"):
        load_judge(tiny, replace(SMALL, clip=str(tmp_path / "none")))


def test_figures_that_cannot_be_told_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    judge, notes = load_judge(EMBEDDED, SMALL)
    assert (judge.lpips, judge.clip) == (None, None)
    assert notes == (
        f"lpips is left out: the weights of torchvision's squeezenet1_1 are not in {tmp_path / 'checkpoints'}",
        "clip is left out: pass --clip embedded",
    )
    judge, notes = load_judge(EMBEDDED, replace(SMALL, clip="embedded"))
    assert judge.clip is not None
    assert len(notes) == 1
