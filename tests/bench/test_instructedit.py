"""The InstructEdit bench: whole runs on tiny random checkpoints."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from transformers import CLIPTextConfig, CLIPTextModel

from maskedit.bench.embedded.captions import caption_vocabulary
from maskedit.bench.embedded.tokenizer import build_tokenizer
from maskedit.bench.instructedit import (
    INVERSION_RATIOS,
    RATIOS,
    InstructEditBenchConfig,
    run_instructedit_bench,
    twin_pairs,
)
from maskedit.bench.outcome import METRICS
from maskedit.bench.table import write_json
from maskedit.editors import (
    Backbone,
    BackboneConfig,
    DiffEditConfig,
    GroundingConfig,
    InpaintConfig,
    InstructEditConfig,
    IP2PConfig,
    MDPConfig,
    ModelError,
    load_image,
)

PARSED = ("mdp", "diffedit-0.3", "diffedit-0.5", "diffedit-0.7")
METHODS = (
    "unedited",
    *(name for parsed in PARSED for name in (parsed, f"{parsed}/true-captions")),
    "ip2p",
    "instructedit",
    "instructedit-true",
    "inpaint",
)


@pytest.fixture(scope="module")
def models(
    ip2p_folder: Path, sd_folder: Path, inpainting_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Tiny checkpoints in the places of the published ones; a word is a token, so that captions of scenes fit."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ip2p_folder, folder / "instruct-pix2pix")
    tokenizer = build_tokenizer(caption_vocabulary(), length=48)
    for tiny, name in ((sd_folder, "stable-diffusion-v1-5"), (inpainting_folder, "stable-diffusion-inpainting")):
        shutil.copytree(tiny, folder / name)
        config = CLIPTextConfig.from_pretrained(tiny, subfolder="text_encoder", vocab_size=len(tokenizer))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            CLIPTextModel(config).save_pretrained(folder / name / "text_encoder")
        tokenizer.save_pretrained(folder / name / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def checkpoint(models: Path) -> BackboneConfig:
    return BackboneConfig(model_dir=models, offline=True, device="cpu")


@pytest.fixture(scope="module")
def config(clipseg_folder: Path) -> InstructEditBenchConfig:
    grounding = GroundingConfig(segmenter="clipseg", clipseg=str(clipseg_folder), mask_threshold=0.45)
    return InstructEditBenchConfig(
        scenes=2,
        batch=2,
        ratio_scenes=2,
        inversion_scenes=2,
        inversion_steps=10,
        ip2p=IP2PConfig(steps=2, sampler="ddim"),
        mdp=MDPConfig(steps=4),
        diffedit=DiffEditConfig(steps=4, mask_maps=2),
        instructedit=InstructEditConfig(steps=10, grounding=grounding),
        inpaint=InpaintConfig(steps=2, grounding=grounding),
    )


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sheets") / "new"


@pytest.fixture(scope="module")
def document(checkpoint: BackboneConfig, config: InstructEditBenchConfig, sheets: Path) -> dict[str, Any]:
    return run_instructedit_bench(checkpoint, replace(config, pictures=sheets))


@pytest.fixture(scope="module")
def rows(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    rows = {(row["method"], row["set"]): row for row in document["rows"]}
    assert len(rows) == len(document["rows"])
    return rows


def test_scenes_have_twins_of_which_the_instruction_names_one() -> None:
    batches = twin_pairs("test", 5, 32, 3)
    assert [len(batch.specs) for batch in batches] == [3, 2]
    for spec in (spec for batch in batches for spec in batch.specs):
        (edit,) = spec.edits
        (target,) = edit.named.targets
        assert edit.named.family == "twin"
        assert sum(block.noun == spec.scene.blocks[target].noun for block in spec.scene.blocks) > 1
    assert not {s.scene for s in twin_pairs("validation", 3, 32, 3)[0].specs} & {s.scene for s in batches[0].specs}


def test_a_run_has_the_form_of_every_bench(document: dict[str, Any], tmp_path: Path) -> None:
    assert (document["bench"], document["model"], document["machine"]["device"]) == ("instructedit", None, "cpu")
    write_json(document, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == document


def test_every_method_is_measured(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert {method for method, name in rows if name == "twins"} == set(METHODS)
    for (method, name), row in rows.items():
        if method != "inversion":
            assert list(row) == ["method", "set", "pictures", *METRICS]
        if name == "twins":
            assert row["pictures"] == 2
    kinds = {spec.edits[0].kind for spec in twin_pairs("test", 2, 64, 2)[0].specs}
    for method in ("unedited", "instructedit", "instructedit-true"):
        assert {name for own, name in rows if own == method and "/" in name} == {f"twins/{kind}" for kind in kinds}


def test_only_editors_with_a_mask_are_asked_for_it(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert [rows[name, "twins"]["mask_iou"] for name in ("unedited", "mdp", "ip2p")] == [None] * 3
    assert rows["instructedit-true", "twins"]["mask_iou"] == 1
    for name in ("instructedit", "inpaint", "diffedit-0.5"):
        assert 0 < rows[name, "twins"]["mask_iou"] < 1
    # The two find objects alike.
    assert rows["instructedit", "twins"]["mask_iou"] == rows["inpaint", "twins"]["mask_iou"]
    # A map of random differences has fewer cells above a higher threshold.
    outside = [rows[f"diffedit-{threshold}", "twins"]["psnr_outside"] for threshold in (0.3, 0.5, 0.7)]
    assert outside == sorted(outside)


def test_captions_matter_to_those_that_read_them(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    for name in PARSED:
        parsed, true = (rows[n, "twins"]["psnr_truth"] for n in (name, f"{name}/true-captions"))
        assert parsed != true


def test_encoding_ratios_are_measured_on_the_first_scenes(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    swept = [row for (method, name), row in rows.items() if method == "instructedit" and "ratio" in name]
    assert [row["set"] for row in swept] == [f"first 2, encoding_ratio={ratio:g}" for ratio in RATIOS]
    assert all(row["pictures"] == 2 for row in swept)
    assert len({row["psnr_inside"] for row in swept}) == len(RATIOS)
    # The published ratio is also the one of the table.
    for metric in METRICS[:-1]:
        assert swept[RATIOS.index(0.5)][metric] == pytest.approx(rows["instructedit", "twins"][metric])
        assert rows["inpaint", "first 2"][metric] == rows["inpaint", "twins"][metric]


@torch.no_grad()
def test_inversion_is_what_diffusers_schedulers_make_of_it(
    rows: dict[tuple[str, str], dict[str, Any]], checkpoint: BackboneConfig
) -> None:
    backbone = Backbone.load(checkpoint, "text-to-image")
    pairs = twin_pairs("test", 2, 64, 2)[0]
    texts = backbone.embed([s.scene.caption for s in pairs.specs])
    clean = backbone.scale_latents(backbone.encode(pairs.source))
    config = {**backbone.scheduler_config, "timestep_spacing": "leading", "steps_offset": 0, "clip_sample": False}
    found: list[float] = []
    for ratio in INVERSION_RATIOS:
        there = DDIMInverseScheduler.from_config({**config, "set_alpha_to_one": False})
        back = DDIMScheduler.from_config({**config, "set_alpha_to_one": False})
        latents, executed = clean, int(10 * ratio + 1e-6)
        there.set_timesteps(10)
        back.set_timesteps(10)
        for scheduler, times in ((there, there.timesteps[:executed]), (back, back.timesteps[10 - executed :])):
            for time in times:
                output = backbone.unet(latents, time, encoder_hidden_states=texts).sample
                latents = scheduler.step(output, time, latents).prev_sample
        error = (latents - clean).pow(2).mean((1, 2, 3))
        peak = clean.amax((1, 2, 3)) - clean.amin((1, 2, 3))
        row = rows["inversion", f"first 2, encoding_ratio={ratio:g}"]
        assert row["pictures"] == 2
        if ratio > 0.1:  # The first step changes nothing but last bits.
            found.append((10 * (peak**2 / error).log10()).mean().item())
            assert row["psnr_inversion"] == pytest.approx(found[-1], abs=0.2)
    assert found[0] > found[-1]


def figures(document: dict[str, Any]) -> dict[str, float]:
    """Every figure but the seconds; -1 for null."""
    return {
        f"{row['method']} {row['set']} {name}": -1 if value is None else value
        for row in document["rows"]
        for name, value in row.items()
        if name not in ("method", "set", "seconds")
    }


def test_figures_repeat_whatever_the_batch(
    document: dict[str, Any], checkpoint: BackboneConfig, config: InstructEditBenchConfig
) -> None:
    calls: list[tuple[str, int, int]] = []
    small = replace(config, batch=1, editors=("diffedit", "instructedit"), inversion_scenes=0, thresholds=(0.5,))
    again = figures(run_instructedit_bench(checkpoint, small, progress=lambda *call: calls.append(call)))
    before = figures(document)
    assert again == pytest.approx({name: before[name] for name in again}, rel=1e-3)
    assert calls[:3] == [("diffedit-0.5", 1, 2), ("diffedit-0.5", 2, 2), ("diffedit-0.5/true-captions", 1, 2)]
    assert not [name for name in again if name.startswith(("mdp", "inversion", "inpaint"))]


def test_contact_sheets_show_masks_methods_and_ratios(document: dict[str, Any], sheets: Path) -> None:
    widths = {"masks": 2 + 4 + 4, "methods": len(METHODS) - 5 + 2, "ratios": 2 + len(RATIOS) + 1}
    assert sorted(path.name for path in sheets.iterdir()) == sorted(f"instructedit_{name}.png" for name in widths)
    for name, columns in widths.items():
        assert load_image(sheets / f"instructedit_{name}.png").shape == (1, 3, 2 * 128, columns * 128)
    sheet = load_image(sheets / "instructedit_masks.png")
    shrunk = torch.nn.functional.avg_pool2d(sheet[..., :128, :128], 2)
    assert (shrunk - twin_pairs("test", 1, 64, 1)[0].source).abs().mean() < 0.02


def test_only_checkpoints_that_are_needed_are_loaded(models: Path, config: InstructEditBenchConfig, tmp_path: Path):
    (tmp_path / "stable-diffusion-v1-5").symlink_to(models / "stable-diffusion-v1-5")
    lacking = BackboneConfig(model_dir=tmp_path, offline=True, device="cpu")
    small = replace(config, scenes=1, editors=("mdp",))
    found = {row["method"] for row in run_instructedit_bench(lacking, small)["rows"]}
    assert found == {"unedited", "mdp", "mdp/true-captions"}
    with pytest.raises(ModelError, match="stable-diffusion-inpainting"):
        run_instructedit_bench(lacking, replace(small, editors=("mdp", "inpaint")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": 0}, "scenes must be at least 1"),
        ({"ratio_scenes": -1}, "ratio_scenes must be at least 0"),
        ({"inversion_steps": 9}, "inversion_steps must be at least 10"),
        ({"editors": ()}, "editors must be some of"),
        ({"editors": ("foi",)}, "editors must be some of"),
        ({"thresholds": (0.5, 0.0)}, "thresholds must be in"),
        ({"instructedit": InstructEditConfig(steps=3)}, "instructedit.steps must be at least"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstructEditBenchConfig(**changes)
