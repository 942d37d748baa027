"""Loading segmenters and captioners: found like any checkpoint, complete, never from pickles, errors of one line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from maskedit.editors.core.errors import ModelError
from maskedit.editors.parts.pretrained import Pretrained, load_pretrained


@pytest.fixture
def copy(clipseg_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to break, where a model folder would have it."""
    return Path(shutil.copytree(clipseg_folder, tmp_path / "owner" / "clipseg"))


def load(name: Path | str, *, model_dir: Path | None = None) -> Pretrained:
    return load_pretrained(
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        str(name),
        role="clipseg",
        device="cpu",
        model_dir=model_dir,
        offline=True,
    )


def test_every_weight_comes_from_the_file(clipseg_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network, processor, location = load(clipseg_folder)
    stored = load_file(clipseg_folder / "model.safetensors")
    state = network.state_dict()
    assert stored.keys() == state.keys()
    assert all(torch.equal(state[name], value) for name, value in stored.items())
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    assert isinstance(processor, CLIPSegProcessor)
    assert location == clipseg_folder
    assert capfd.readouterr() == ("", "")


def test_offline_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load("nobody/nothing", model_dir=tmp_path)
    message = str(caught.value)
    assert message == (
        f"the clipseg nobody/nothing is not on this machine (looked in {tmp_path} and the hub's cache), and --offline "
        "asks no further: "
        f"fetch it with `hf download nobody/nothing --local-dir {tmp_path}/nobody/nothing`"
    )


def lose_a_weight(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    del stored["decoder.film_mul.weight"]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def store_as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def lose_the_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def lose_the_processor(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_a_weight, r"^clipseg of the checkpoint .* lacks 1 weights \(decoder.film_mul.weight"),
        (store_as_pickle, r"only pickle weights \(pytorch_model.bin\), which may run code: convert them"),
        (lose_the_vocabulary, r"^processor of the checkpoint .* is missing or incomplete"),
        (lose_the_processor, r"^processor of the checkpoint .* cannot be loaded"),
    ],
)
def test_damage_is_one_clear_line(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=message) as caught:
        load(copy)
    assert "\n" not in str(caught.value)
