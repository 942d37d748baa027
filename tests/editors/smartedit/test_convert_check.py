"""A checkpoint whose language model is the right one passes, and another one is told in one line."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskedit.editors.core.checkpoint import BackboneConfig
from maskedit.editors.smartedit.convert import convert_smartedit
from maskedit.editors.smartedit.convert_check import RECORD, Finding, check_smartedit
from maskedit.editors.smartedit.convert_release import SmartEditConversion

CPU = BackboneConfig(device="cpu", offline=True)
LOOKS = ["files", "sizes", "tokens", "language model", "answer"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted SmartEdit that has learned to say its image tokens."""
    name, folder = "published_files", tmp_path_factory.mktemp("published")
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    published = module.publish(folder, learn=60)
    places = {"clip": str(published.clip), "base": str(published.base), "output": folder / "ours"}
    convert_smartedit(SmartEditConversion(release=published.release, llava=published.llava, **places), CPU)
    # Copies of it elsewhere build on the same one.
    name_base(folder / "ours", str(published.base))
    return folder / "ours"


def name_base(checkpoint: Path, base: str) -> None:
    path = checkpoint / "maskedit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base": base}))


def changed(checkpoint: Path, to: Path, change: Callable[[dict[str, Tensor]], None], *, keep_record: bool) -> Path:
    """A copy with another language model."""
    shutil.copytree(checkpoint, to)
    path = to / "mllm" / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    if not keep_record:
        (to / "smartedit" / RECORD).unlink()
    return to


def shuffle_layers(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if ".layers.0." in name and "language_model" in name]:
        other = name.replace(".layers.0.", ".layers.1.")
        tensors[name], tensors[other] = tensors[other], tensors[name]


def take_another(tensors: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(5)
    for name, each in tensors.items():
        if "language_model" in name and each.ndim == 2:
            tensors[name] = each.std() * torch.randn(each.shape, generator=generator)


def last(checkpoint: Path, *, load: bool) -> Finding:
    return check_smartedit(checkpoint, CPU, load=load)[-1]


def test_the_right_language_model_passes(checkpoint: Path) -> None:
    findings = check_smartedit(checkpoint, CPU, load=True)
    assert [each.what for each in findings] == LOOKS
    assert all(each.fits for each in findings), findings
    assert "2 layers of width 48, 264 rows and 35 new ones" in findings[1].note
    assert [each.what for each in check_smartedit(checkpoint, CPU, load=False)] == LOOKS[:-1]


@pytest.mark.parametrize("change", [shuffle_layers, take_another])
def test_another_language_model_is_told_by_its_record(
    checkpoint: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], None]
) -> None:
    found = last(changed(checkpoint, tmp_path / "copy", change, keep_record=True), load=True)
    assert (found.what, found.fits) == ("language model", False)
    assert "is not the one SmartEdit learned on" in found.note
    assert "convert anew with the LLaVA-1.1" in found.note


@pytest.mark.parametrize("change", [shuffle_layers, take_another])
def test_another_language_model_is_told_by_its_answer(
    checkpoint: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], None]
) -> None:
    folder = changed(checkpoint, tmp_path / "copy", change, keep_record=False)
    assert last(folder, load=False).note.startswith("nothing is recorded")
    found = last(folder, load=True)
    assert (found.what, found.fits) == ("answer", False)
    assert "does not answer as SmartEdit taught it" in found.note
    assert "5.7 is chance" in found.note
    assert "\n" not in found.note


def test_the_same_in_fewer_bits_or_by_other_names_passes(checkpoint: Path, tmp_path: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            other = name.replace("model.language_model.", "language_model.model.")
            other = other.replace("lm_head.", "language_model.lm_head.").replace("model.vision_tower.", "vision_tower.")
            tensors[other] = tensors.pop(name).to(torch.bfloat16)

    found = last(changed(checkpoint, tmp_path / "copy", rename, keep_record=True), load=False)
    assert (found.what, found.fits) == ("language model", True)


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("smartedit/config.json", "files"),
        ("smartedit/model.safetensors", "files"),
        ("adapter/adapter_model.safetensors", "files"),
        ("mllm/model.safetensors", "files"),
        ("mllm/tokenizer.json", "tokens"),
    ],
)
def test_missing_files_are_named(checkpoint: Path, tmp_path: Path, file: str, what: str) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (folder / file).unlink()
    found = last(folder, load=False)
    assert (found.what, found.fits) == (what, False)
    assert str(folder) in found.note


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("smartedit", {"new_inputs": torch.ones(35, 40)}, "new tokens' inputs: expected (35, 48)"),
        ("adapter", {"base_model.model.layers.2.self_attn.q_proj.lora_A.weight": torch.ones(8, 48)}, "have LoRA: "),
        ("mllm", {"lm_head.weight": torch.ones(9, 48)}, "width of the head: expected (264, 48)"),
        ("mllm", {"model.vision_tower.post_layernorm.weight": torch.ones(9)}, "features: expected 32"),
    ],
)
def test_sizes_that_do_not_fit(checkpoint: Path, tmp_path: Path, file: str, change: Any, message: str) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (path,) = (folder / file).glob("*.safetensors")
    save_file({**load_file(path), **change}, path)
    found = last(folder, load=False)
    assert (found.what, found.fits) == ("sizes", False)
    assert message in found.note


def test_a_base_that_is_gone_is_told(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    name_base(folder, "../gone")
    found = last(folder, load=False)
    assert (found.what, found.fits) == ("files", False)
    assert "found nothing at '../gone'" in found.note


def test_a_language_model_elsewhere_is_looked_for(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (folder / "mllm").rename(tmp_path / "llava")
    path = folder / "smartedit" / "config.json"
    for where, fits in (("../llava", True), ("nobody/llava", False)):
        path.write_text(json.dumps({**json.loads(path.read_text()), "mllm": where}))
        assert last(folder, load=False).fits is fits
    assert "hf download nobody/llava" in last(folder, load=False).note
