"""Loading parts: silence that ends with the block, and nothing filled in for what is missing."""

import json
import logging
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from maskedit.editors import PRESET_FILE, BackboneConfig, ModelError
from maskedit.editors.core.loading import load_configuration, load_network, load_part, quiet_loading

CONFIG = BackboneConfig(device="cpu")
LIBRARIES = (diffusers_logging, transformers_logging)
WEIGHTS = "diffusion_pytorch_model.safetensors"


def state() -> list[tuple[int, bool]]:
    return [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in LIBRARIES]


@pytest.fixture
def copy(ip2p_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to break."""
    return Path(shutil.copytree(ip2p_folder, tmp_path / "checkpoint"))


@pytest.mark.parametrize("bars", [True, False])
def test_silence_ends_with_the_block_also_after_an_error(bars: bool) -> None:
    levels = [library.get_verbosity() for library in LIBRARIES]
    for library in LIBRARIES:
        library.set_verbosity(logging.INFO)
        (library.enable_progress_bar if bars else library.disable_progress_bar)()
    before = state()
    try:
        with quiet_loading():
            assert not any(enabled for _, enabled in state())
            assert state() != before
        assert state() == before
        with pytest.raises(KeyError), quiet_loading():
            raise KeyError("x")
        assert state() == before
    finally:
        for library, level in zip(LIBRARIES, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def test_warnings_are_as_before_after_the_block() -> None:
    with quiet_loading():
        warnings.warn("said by a library about itself", FutureWarning, stacklevel=1)
    with pytest.warns(FutureWarning):
        warnings.warn("said by somebody else", FutureWarning, stacklevel=1)


def test_bars_of_downloads_stay() -> None:
    before = [enabled for _, enabled in state()]
    with quiet_loading(keep_bars=True):
        assert [enabled for _, enabled in state()] == before


def test_loading_prints_nothing(ip2p_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_loading():
        load_network(UNet2DConditionModel, "unet", ip2p_folder, CONFIG)
        load_network(CLIPTextModel, "text_encoder", ip2p_folder, CONFIG)
        load_configuration(CLIPTokenizer, "from_pretrained", "tokenizer", ip2p_folder, CONFIG)
    assert capfd.readouterr() == ("", "")


def test_weights_come_back_bit_for_bit(ip2p_folder: Path) -> None:
    with quiet_loading():
        vae = load_network(AutoencoderKL, "vae", ip2p_folder, CONFIG)
    stored = load_file(ip2p_folder / "vae" / WEIGHTS)
    assert {name: torch.equal(value, stored[name]) for name, value in vae.state_dict().items()} == dict.fromkeys(
        stored, True
    )


def test_a_checkpoint_may_be_one_network(ip2p_folder: Path, tmp_path: Path) -> None:
    with quiet_loading():
        part = load_network(CLIPTextModel, "text_encoder", ip2p_folder, CONFIG)
        alone = load_network(CLIPTextModel, "reader", ip2p_folder / "text_encoder", CONFIG, subfolder="")
        tokenizer = load_configuration(
            CLIPTokenizer, "from_pretrained", "words", ip2p_folder / "tokenizer", CONFIG, subfolder=""
        )
    assert all(torch.equal(value, part.state_dict()[name]) for name, value in alone.state_dict().items())
    assert tokenizer("cube").input_ids == CLIPTokenizer.from_pretrained(ip2p_folder / "tokenizer")("cube").input_ids
    with quiet_loading(), pytest.raises(ModelError, match=r"^reader of the checkpoint .* cannot be loaded"):
        load_network(CLIPTextModel, "reader", tmp_path, CONFIG, subfolder="")
    with quiet_loading(), pytest.raises(ModelError, match=r"^words of the checkpoint .* is missing or incomplete"):
        load_configuration(CLIPTokenizer, "from_pretrained", "words", tmp_path, CONFIG, subfolder="")


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    path = copy / "vae" / WEIGHTS
    stored = load_file(path)
    lost = sorted(stored)[3]
    del stored[lost]
    save_file(stored, path)
    with quiet_loading(), pytest.raises(ModelError, match=r"vae of the checkpoint .* lacks 1 weights") as caught:
        load_network(AutoencoderKL, "vae", copy, CONFIG)
    assert lost in str(caught.value)


def test_missing_weights_of_the_text_encoder_are_not_made_up(copy: Path) -> None:
    path = copy / "text_encoder" / "model.safetensors"
    stored = load_file(path)
    del stored[sorted(stored)[3]]
    save_file(stored, path, metadata={"format": "pt"})
    with quiet_loading(), pytest.raises(ModelError, match=r"lacks 1 weights"):
        load_network(CLIPTextModel, "text_encoder", copy, CONFIG)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    path = copy / "vae" / WEIGHTS
    stored = load_file(path)
    name = sorted(stored)[3]
    stored[name] = torch.zeros(1, 2, 3)
    save_file(stored, path)
    with quiet_loading(), pytest.raises(ModelError, match=r"vae of the checkpoint .* cannot be loaded") as caught:
        load_network(AutoencoderKL, "vae", copy, CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name"), [(UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"), (CLIPTextModel, "text_encoder")]
)
def test_pickle_weights_are_refused(copy: Path, kind: type, name: str) -> None:
    (weights,) = (copy / name).glob("*.safetensors")
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with (
        quiet_loading(),
        pytest.raises(ModelError, match=r"only pickle weights .*convert them to safetensors") as caught,
    ):
        load_network(kind, name, copy, CONFIG)
    assert "\n" not in str(caught.value)


def test_garbled_weights_are_one_clear_line(copy: Path) -> None:
    (copy / "unet" / WEIGHTS).write_bytes(b"\1" * 100)
    with quiet_loading(), pytest.raises(ModelError, match=r"unet of the checkpoint .* cannot be loaded") as caught:
        load_network(UNet2DConditionModel, "unet", copy, CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder"])
def test_a_missing_network_is_named(copy: Path, name: str) -> None:
    shutil.rmtree(copy / name)
    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}[name]
    with quiet_loading(), pytest.raises(ModelError, match=rf"{name} of the checkpoint .* is missing: fetch the whole"):
        load_network(kind, name, copy, CONFIG)


def test_a_missing_tokenizer_or_scheduler_is_named(copy: Path) -> None:
    for name in ("tokenizer", "scheduler"):
        shutil.rmtree(copy / name)
    with quiet_loading(), pytest.raises(ModelError, match=r"tokenizer of the checkpoint .* is missing"):
        load_configuration(CLIPTokenizer, "from_pretrained", "tokenizer", copy, CONFIG)
    with quiet_loading(), pytest.raises(ModelError, match=r"scheduler of the checkpoint .* is missing"):
        load_configuration(DDIMScheduler, "load_config", "scheduler", copy, CONFIG)


@pytest.mark.parametrize("name", ["tokenizer", "scheduler"])
def test_an_empty_folder_is_one_clear_line(copy: Path, name: str) -> None:
    for path in (copy / name).iterdir():
        path.unlink()
    kind, method = {"tokenizer": (CLIPTokenizer, "from_pretrained"), "scheduler": (DDIMScheduler, "load_config")}[name]
    with (
        quiet_loading(),
        pytest.raises(ModelError, match=rf"{name} of the checkpoint .* (cannot be loaded|is missing or)") as caught,
    ):
        load_configuration(kind, method, name, copy, CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_dir", [None, Path("weights")])
def test_a_hub_id_that_cannot_be_had_says_what_to_fetch(model_dir: Path | None) -> None:
    config = BackboneConfig(model="nobody/nothing", model_dir=model_dir, offline=True)
    with quiet_loading(), pytest.raises(ModelError) as caught:
        load_network(UNet2DConditionModel, "unet", "nobody/nothing", config)
    target = " --local-dir weights/nobody/nothing" if model_dir else ""
    message = str(caught.value)
    assert message.startswith("the unet of nobody/nothing is not on this machine (looked in ")
    assert message.endswith(f"and --offline asks no further: fetch it with `hf download nobody/nothing{target}`")


def test_running_out_of_memory_is_no_problem_of_the_checkpoint(tmp_path: Path) -> None:
    def load() -> None:
        raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError):
        load_part(load, "unet", tmp_path, CONFIG)


def test_what_a_checkpoint_lacks_is_loaded_from_the_one_it_builds_on(copy: Path, ip2p_folder: Path) -> None:
    shutil.rmtree(copy / "vae")
    shutil.rmtree(copy / "tokenizer")
    (copy / PRESET_FILE).write_text(json.dumps({"base": str(ip2p_folder)}))
    vae = load_network(AutoencoderKL, "vae", copy, CONFIG)
    own = load_file(ip2p_folder / "vae" / WEIGHTS)
    assert all(torch.equal(value, own[name]) for name, value in vae.state_dict().items())
    tokenizer = load_configuration(CLIPTokenizer, "from_pretrained", "tokenizer", copy, CONFIG)
    assert len(tokenizer) > 2
