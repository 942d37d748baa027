"""Holding a checkpoint: it loads in every way and precision, encodes everything once and runs the UNet once a step."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from maskedit.editors import BackboneConfig, InputError, ModelError
from maskedit.editors.core.architectures import INSTRUCT_PIX2PIX
from maskedit.editors.core.backbone import Backbone, resolve_device

BRANCHES = ("text", "image", "uncond")
Pictures = Callable[..., torch.Tensor]


def cpu(model: str | Path, **options: Any) -> BackboneConfig:
    return BackboneConfig(model=str(model), device="cpu", **options)


@pytest.mark.parametrize("where", ["", "owner/name", "name"])
def test_it_loads_by_folder_and_from_a_folder_of_weights(ip2p_folder: Path, tmp_path: Path, where: str) -> None:
    if where:
        shutil.copytree(ip2p_folder, tmp_path / where)
    config = cpu("owner/name", model_dir=tmp_path) if where else cpu(ip2p_folder)
    backbone = Backbone.load(config)
    assert (backbone.native_size, backbone.vae_scale_factor, backbone.latent_channels) == (64, 4, 4)
    assert backbone.name == config.model
    assert not any(p.requires_grad for p in backbone.unet.parameters())
    assert not backbone.unet.training


def test_loading_prints_and_changes_nothing(ip2p_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Backbone.load(cpu(ip2p_folder))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_loads_and_runs(ip2p_folder: Path, pictures: Pictures, dtype: str, tolerance: Callable) -> None:
    half, full = Backbone.load(cpu(ip2p_folder, dtype=dtype)), Backbone.load(cpu(ip2p_folder))
    wanted = getattr(torch, dtype)
    assert {half.unet.dtype, half.vae.dtype, half.text_encoder.dtype, half.dtype} == {wanted}
    results = []
    for backbone in (half, full):
        condition = backbone.encode(pictures())
        conditioning = backbone.condition(BRANCHES, backbone.embed(["make it red"]), condition)
        predicted = backbone.predict(condition, torch.tensor([500.0]), conditioning)["text"]
        results.append((predicted, backbone.decode(condition)))
    (predicted, picture), (expected, expected_picture) = results
    assert predicted.dtype == wanted
    assert picture.dtype == torch.float32
    limits = tolerance(wanted)
    torch.testing.assert_close(predicted.float(), expected, atol=10 * limits.atol, rtol=10 * limits.rtol)
    torch.testing.assert_close(picture, expected_picture, atol=10 * limits.atol, rtol=10 * limits.rtol)


def test_its_own_settings_come_with_a_checkpoint(ip2p_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ip2p_folder, tmp_path / "own"))
    (folder / "maskedit.json").write_text(json.dumps({"instruct": {"steps": 7}}))
    assert Backbone.load(cpu(folder)).preset.instruct.steps == 7
    (folder / "maskedit.json").write_text(json.dumps({"stops": 7}))
    with pytest.raises(ModelError, match="unknown settings"):
        Backbone.load(cpu(folder))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_one_clear_line(ip2p_folder: Path, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(ip2p_folder, tmp_path / "incomplete"))
    shutil.rmtree(folder / part)
    with pytest.raises(ModelError, match=f"^{part} of the checkpoint .* is missing") as caught:
        Backbone.load(cpu(folder))
    assert "\n" not in str(caught.value)


def test_a_hub_id_that_is_not_here_says_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"hf download a/b --local-dir {tmp_path}/a/b`"):
        Backbone.load(cpu("a/b", model_dir=tmp_path, offline=True))


def test_a_checkpoint_without_a_condition_picture_is_refused(sd_backbone: Backbone, backbone: Backbone) -> None:
    backbone.require("instruct-pix2pix", "foi")
    with pytest.raises(
        ModelError, match="foi needs an InstructPix2Pix checkpoint, a UNet of 8 input channels"
    ) as caught:
        sd_backbone.require("instruct-pix2pix", "foi")
    assert "has 4" in str(caught.value)


def test_a_checkpoint_of_smartedit_is_refused_to_editors_that_give_it_texts(smartedit_checkpoint: Path) -> None:
    """Its UNet reads as many channels as one of InstructPix2Pix."""
    backbone = Backbone.load(cpu(smartedit_checkpoint), "instruct-pix2pix")
    backbone.require("smartedit", "smartedit")
    with pytest.raises(ModelError, match=r"ip2p needs an InstructPix2Pix checkpoint, but .* use the editor smartedit"):
        backbone.require("instruct-pix2pix", "ip2p")


def test_a_smartedit_on_the_hub_finds_what_it_builds_on(
    smartedit_checkpoint: Path, ip2p_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    copy = tmp_path / "models--owner--smart"
    shutil.copytree(smartedit_checkpoint, copy / "snapshots" / ("a" * 40))
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text("a" * 40)
    config = BackboneConfig(model="owner/smart", device="cpu", offline=True)
    backbone = Backbone.load(config, "smartedit")
    assert backbone.name == "owner/smart"
    own = load_file(ip2p_folder / "vae" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, own[name]) for name, value in backbone.vae.state_dict().items())
    with pytest.raises(ModelError, match="the checkpoint owner/other is not on this machine"):
        Backbone.load(BackboneConfig(model="owner/other", device="cpu", offline=True), "smartedit")


def test_devices_and_precisions() -> None:
    assert resolve_device("cpu", "auto") == (torch.device("cpu"), torch.float32)
    assert resolve_device("cpu", "bfloat16")[1] == torch.bfloat16
    with pytest.raises(ModelError, match="expected a device such as cpu or cuda"):
        resolve_device("toaster", "auto")


def test_a_device_that_is_not_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto", "auto")[0].type == "cpu"
    with pytest.raises(ModelError, match="no CUDA device: ask for the device cpu"):
        resolve_device("cuda:1", "auto")


def test_without_a_tokenizer_it_says_so() -> None:
    with pytest.raises(ModelError, match="built without a tokenizer"):
        _ = Backbone.build(INSTRUCT_PIX2PIX, device="meta").tokenizer


def test_pictures_are_encoded_as_the_pipeline_does(ip2p_folder: Path, backbone: Backbone, pictures: Pictures) -> None:
    vae = AutoencoderKL.from_pretrained(str(ip2p_folder), subfolder="vae", low_cpu_mem_usage=False)
    image = pictures(2)
    expected = vae.encode(image * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(backbone.encode(image), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(backbone.scale_latents(expected), expected * 0.18215)


def test_texts_are_embedded_as_the_pipeline_does(ip2p_folder: Path, backbone: Backbone) -> None:
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        str(ip2p_folder), safety_checker=None, low_cpu_mem_usage=False
    )
    prompts = pipeline._encode_prompt("make it red", torch.device("cpu"), 1, True)
    ours = torch.cat([backbone.embed(["make it red"]), backbone.embed(["", ""])])
    torch.testing.assert_close(ours, prompts, atol=1e-6, rtol=1e-5)


def test_a_text_that_would_be_cut_off_is_refused(backbone: Backbone) -> None:
    with pytest.raises(InputError, match="expected at most 75 tokens of text, got 90") as caught:
        backbone.embed(["a" * 90])
    assert "\n" not in str(caught.value)


def test_each_picture_and_text_is_encoded_once(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    backbone = variant()
    image = pictures(3)
    whole = backbone.encode(image)
    assert backbone.counts["image"] == 3
    again = backbone.encode(torch.cat([image[2:], image[:1], image[2:]]))
    assert backbone.counts["image"] == 3
    assert torch.equal(again, torch.cat([whole[2:], whole[:1], whole[2:]]))
    backbone.encode(torch.cat([image, pictures(2, seed=1), pictures(2, seed=1)]))
    assert backbone.counts["image"] == 5
    backbone.embed(["a", "b", "a"])
    backbone.embed(["b"])
    assert backbone.counts["text"] == 2


def test_pictures_of_the_same_bytes_and_another_shape_differ(variant: Callable[..., Backbone]) -> None:
    backbone = variant()
    assert backbone.encode(torch.zeros(1, 3, 32, 64)).shape == (1, 4, 8, 16)
    assert backbone.encode(torch.zeros(1, 3, 64, 32)).shape == (1, 4, 16, 8)


def test_sides_that_do_not_fit_the_latents_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="sides in multiples of 4 pixels, got 62x64"):
        backbone.encode(torch.zeros(1, 3, 64, 62))


def test_decoded_pictures_are_in_range(backbone: Backbone) -> None:
    picture = backbone.decode(torch.randn(2, 4, 16, 16) * 20)
    assert picture.shape == (2, 3, 64, 64)
    assert (picture.min() >= 0, picture.max() <= 1) == (True, True)


def test_conditions_are_laid_out_by_branch(backbone: Backbone, pictures: Pictures) -> None:
    condition = backbone.encode(pictures(2))
    text = backbone.embed(["make it red"])
    laid = backbone.condition(BRANCHES, text, condition)
    empty = backbone.embed([""])
    for row, (embeds, image) in enumerate(zip(laid.embeds.split(2), laid.channels.split(2), strict=True)):
        assert torch.equal(embeds, (text if BRANCHES[row] == "text" else empty).expand(2, -1, -1))
        assert torch.equal(image, torch.zeros_like(condition) if BRANCHES[row] == "uncond" else condition)


def test_one_unet_call_serves_every_branch(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    backbone = variant()
    condition = backbone.encode(pictures(2))
    text = backbone.embed(["make it red"])
    latents, time = torch.randn_like(condition), torch.tensor([300.0, 700.0])
    together = backbone.predict(latents, time, backbone.condition(BRANCHES, text, condition))
    assert backbone.counts["unet"] == 1
    assert tuple(together) == BRANCHES
    for branch in BRANCHES:
        for row in range(2):
            one = slice(row, row + 1)
            alone = backbone.condition((branch,), text, condition[one])
            predicted = backbone.predict(latents[one], time[one], alone)[branch]
            torch.testing.assert_close(together[branch][one], predicted, atol=2e-5, rtol=1e-4)


def test_checkpoints_without_a_condition_picture_run_too(sd_backbone: Backbone) -> None:
    conditioning = sd_backbone.condition(("text", "uncond"), sd_backbone.embed(["a cube"]))
    assert conditioning.channels is None
    predicted = sd_backbone.predict(torch.randn(1, 4, 16, 16), torch.tensor([10.0]), conditioning)
    assert {branch: value.shape for branch, value in predicted.items()} == dict.fromkeys(
        ("text", "uncond"), (1, 4, 16, 16)
    )


def test_any_texts_and_channels_of_any_branches_are_laid_out(sd_backbone: Backbone) -> None:
    texts = {"source": sd_backbone.embed(["a cube", "a ball"]), "text": sd_backbone.embed(["a hat"])}
    extra = torch.randn(2, 5, 16, 16)
    laid = sd_backbone.lay_out(texts, dict.fromkeys(texts, extra), batch=2)
    assert laid.branches == ("source", "text")
    assert torch.equal(laid.embeds, torch.cat([texts["source"], texts["text"].expand(2, -1, -1)]))
    assert torch.equal(laid.channels, torch.cat([extra, extra]))
    assert sd_backbone.lay_out(texts, batch=2).channels is None


COMPILED = """
import sys, torch
from maskedit.editors import BackboneConfig, EditRequest, FoIConfig, IP2PConfig, Instruction, Backbone, make_editor

image = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
request = EditRequest(image=image, instructions=(Instruction(text="make the cube red", keyword="cube"),))
graphs = []

def counting(graph, inputs):
    graphs.append(graph)
    return graph.forward

def load(**options):
    return Backbone.load(BackboneConfig(model=sys.argv[1], device="cpu", **options))

def edit(backbone, config):
    return make_editor(config, backbone).edit(request).image

plain, watched, fast = load(), load(), load(compile=sys.argv[2] == "native")
watched.unet.compile(backend=counting)
for steps in (4, 4, 12):
    config = FoIConfig(steps=steps, mask_stride=1, keep_outside="paper")
    torch.testing.assert_close(edit(watched, config), edit(plain, config), atol=1e-4, rtol=1e-3)
    print(len(graphs))

config = IP2PConfig(steps=2, keep_outside="paper")
torch.testing.assert_close(edit(fast, config), edit(plain, config), atol=1e-4, rtol=1e-3)
"""


@pytest.mark.slow
def test_a_compiled_unet_gives_the_same_result_and_is_compiled_twice_for_foi(ip2p_folder: Path, tmp_path: Path) -> None:
    """Once while maps are read and once with the modulation, whatever the number of steps and edits."""
    folder = Path(shutil.copytree(ip2p_folder, tmp_path / "small", ignore=shutil.ignore_patterns("unet")))
    # As few kernels as a UNet with attention can have: each takes the compiler a second.
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        mid_block_type=None,
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=32,
        norm_num_groups=4,
    )
    unet.save_pretrained(folder / "unet")
    # Native code needs a compiler; without one, what is compiled is still compared.
    kind = "native" if shutil.which(os.environ.get("CXX", "g++")) else "traced"
    # In a process of its own, because a compiler cannot look into the shape checks of the tests.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(folder), kind],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["2", "2", "2"]
