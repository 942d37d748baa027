"""A checkpoint is written and read back bit for bit, and what does not belong together is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.checkpoint import BackboneConfig, CheckpointPreset, InstructPreset, load_preset
from maskedit.editors.core.errors import MissingExtraError, ModelError
from maskedit.editors.smartedit import files
from maskedit.editors.smartedit.conversation import PLAIN
from maskedit.editors.smartedit.files import load_smartedit, read_description, save_smartedit
from maskedit.editors.smartedit.model import Reading, SmartEditModel

from .conftest import TINY, make_llava, stir

CPU = BackboneConfig(device="cpu")
PICTURES = torch.rand((2, 3, 48, 64), generator=torch.Generator().manual_seed(0))


def read(model: SmartEditModel) -> Reading:
    return model.read(PICTURES, ["make it red", "remove the cube"])


@pytest.fixture
def unet(ip2p_folder: Path) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(str(ip2p_folder), subfolder="unet")


def test_a_checkpoint_stands_on_its_base(smartedit_folder: Path) -> None:
    assert not (smartedit_folder / "vae").exists()
    backbone = Backbone.load(replace(CPU, model=str(smartedit_folder)), "smartedit")
    backbone.require("smartedit", "smartedit")
    reading = read(load_smartedit(smartedit_folder, CPU))
    assert reading.contexts.shape[1:] == backbone.embed([""])[:, :7].shape[1:]


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_written_is_read_back_bit_for_bit(
    smartedit: SmartEditModel, unet: Any, llava_folder: Path, tmp_path: Path, whole: bool
) -> None:
    stir(smartedit)
    preset = CheckpointPreset(instruct=InstructPreset(steps=7), knows="blocks")
    folder = save_smartedit(smartedit, unet, tmp_path / "a", base="../base", preset=preset, whole=whole)
    assert load_preset(folder) == replace(preset, base="../base")
    architecture, style, where = read_description(folder)
    assert (architecture, style) == (TINY, PLAIN)
    assert (folder / where).resolve() == (folder / "mllm" if whole else llava_folder).resolve()
    again = load_smartedit(folder, CPU)
    wanted, got = smartedit.state_dict(), again.state_dict()
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[name], got[name]) for name in wanted)
    before, after = read(smartedit), read(again)
    assert torch.equal(before.contexts, after.contexts) and torch.equal(before.talk_loss, after.talk_loss)
    for one, other in zip(smartedit.condition(before, (6, 8)), again.condition(after, (6, 8)), strict=True):
        assert one is not None and other is not None and torch.equal(one, other)


def test_a_written_language_model_is_the_one_before_any_training(
    smartedit: SmartEditModel, unet: Any, llava_folder: Path, tmp_path: Path
) -> None:
    stir(smartedit)
    save_smartedit(smartedit, unet, tmp_path, base="x/y", whole=True)
    own, wanted = (load_file(place / "model.safetensors") for place in (tmp_path / "mllm", llava_folder))
    assert own.keys() == wanted.keys() and all(torch.equal(own[name], wanted[name]) for name in own)
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(adapter) == 2 * 2 * 2
    assert all(name.startswith("base_model.model.layers.") and ".lora_" in name for name in adapter)
    stored = load_file(tmp_path / "smartedit" / "model.safetensors")
    assert {name.split(".")[0] for name in stored} == {"qformer", "interaction", "new_inputs", "new_outputs"}
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.fixture
def copied(smartedit_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(smartedit_folder, tmp_path / "copy"))


def change_config(folder: Path, **change: Any) -> None:
    path = folder / "smartedit" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def test_a_checkpoint_may_be_moved(copied: Path, smartedit_folder: Path) -> None:
    assert torch.equal(read(load_smartedit(copied, CPU)).contexts, read(load_smartedit(smartedit_folder, CPU)).contexts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": 9}, "does not fit the sizes beside it"),
        ({"image_tokens": 5}, "does not fit the sizes beside it"),
        ({"interaction_width": 64}, "have width 64, got 32"),
        ({"residual_scale": -1.0}, "residual_scale must be above 0"),
        ({"colour": 1}, "unknown settings"),
        ({"conversation": "x"}, "of the style vicuna_v1 or plain"),
        ({"mllm": "elsewhere"}, "no language model in .*/copy/elsewhere, where .*/copy has it"),
        ({"mllm": "../nowhere"}, r"no language model in .*/copy/\.\./nowhere, where .*/copy has it"),
        ({"mllm": None}, "mllm must be str, got None"),
        ({"image_tokens": "4"}, "image_tokens must be int, got '4'"),
        ({"queries": 7.0}, r"queries must be int, got 7\.0"),
        ({"queries": True}, "queries must be int, got True"),
        ({"final_attention": "no"}, "final_attention must be bool, got 'no'"),
        ({"residual_scale": "1"}, "residual_scale must be float, got '1'"),
        ({"interaction": "both"}, "interaction must be one of two-way, image-only, none, got 'both'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(copied: Path, change: dict[str, Any], message: str) -> None:
    change_config(copied, **change)
    with pytest.raises(ModelError, match=message):
        load_smartedit(copied, CPU)


@pytest.mark.parametrize(
    "path",
    [
        "smartedit/config.json",
        "smartedit/model.safetensors",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "mllm/tokenizer.json",
    ],
)
def test_a_missing_part_is_named(copied: Path, path: str) -> None:
    (copied / path).unlink()
    with pytest.raises(ModelError) as caught:
        load_smartedit(copied, CPU)
    assert "\n" not in str(caught.value) and Path(path).parent.name in str(caught.value)


def test_a_missing_tensor_is_named(copied: Path) -> None:
    path = copied / "smartedit" / "model.safetensors"
    stored = load_file(path)
    stored.pop("interaction.positions.positional_encoding_gaussian_matrix")
    save_file(stored, path)
    with pytest.raises(ModelError, match=r"interaction\.positions\.positional_encoding_gaussian_matrix, 1 tensors"):
        load_smartedit(copied, CPU)


def test_bits_are_saved_only_where_the_package_is(smartedit_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs the package bitsandbytes: install it with"):
        load_smartedit(smartedit_folder, CPU, quantize="4bit")


def test_a_whole_number_is_a_share_too(copied: Path) -> None:
    change_config(copied, residual_scale=1)
    assert read_description(copied)[0].residual_scale == 1.0


def test_a_relative_language_model_is_not_looked_up_where_the_user_is(
    copied: Path, llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(llava_folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    change_config(copied, mllm="elsewhere")
    with pytest.raises(ModelError, match="no language model in"):
        load_smartedit(copied, CPU)
    change_config(copied, mllm="../elsewhere")
    load_smartedit(copied, CPU)


def test_half_an_adapter_is_refused(copied: Path) -> None:
    path = copied / "adapter" / "adapter_model.safetensors"
    save_file({name: each for name, each in load_file(path).items() if ".lora_A" in name}, path)
    with pytest.raises(ModelError, match=r"lora_B.weight, 4 tensors\): use its own adapter"):
        load_smartedit(copied, CPU)


def test_a_checkpoint_says_at_which_size_its_unet_learned(smartedit: SmartEditModel, unet: Any, tmp_path: Path) -> None:
    own = unet.config.sample_size
    for size, wanted in ((None, own), (2 * own, 2 * own)):
        folder = save_smartedit(smartedit, unet, tmp_path / str(size), base="x/y", size=size)
        stored = type(unet).from_pretrained(str(folder), subfolder="unet")
        assert (stored.config.sample_size, unet.config.sample_size) == (wanted, own)
        assert all(torch.equal(each, stored.state_dict()[name]) for name, each in unet.state_dict().items())


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_eyes_and_head_keep_all_bits(bits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    monkeypatch.setattr(files, "find_spec", lambda name: name)
    kept = files._quantization(bits, torch.float32).llm_int8_skip_modules
    layers = [name for name, each in make_llava().named_modules() if isinstance(each, torch.nn.Linear)]
    shrunk = {name for name in layers if should_convert_module(name, kept)}
    assert shrunk == {name for name in layers if name.startswith("model.language_model.")}
    assert len(shrunk) == 2 * 7 and len(layers) > len(shrunk) + 2
