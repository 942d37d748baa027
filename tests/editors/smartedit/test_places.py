"""What is missing of a SmartEdit checkpoint, and whether its language model was exchanged."""

import json
import shutil
from pathlib import Path

import pytest

from maskedit.editors import BackboneConfig, ModelError
from maskedit.editors.smartedit.places import fingerprint_mllm, require_smartedit


@pytest.fixture
def folder(smartedit_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that may be written into."""
    return Path(shutil.copytree(smartedit_checkpoint, tmp_path / "own"))


def name_mllm(folder: Path, where: str) -> None:
    path = folder / "smartedit" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mllm": where}))


def test_a_whole_checkpoint_is_no_complaint(folder: Path) -> None:
    require_smartedit(BackboneConfig(model=str(folder)))


@pytest.mark.parametrize(
    "part",
    [
        "unet/config.json",
        "smartedit/config.json",
        "smartedit/model.safetensors",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    ],
)
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    (folder / part).unlink()
    with pytest.raises(ModelError, match=part) as caught:
        require_smartedit(BackboneConfig(model=str(folder)))
    assert "\n" not in str(caught.value)


def test_a_missing_language_model_is_named(folder: Path) -> None:
    (folder / "mllm" / "config.json").unlink()
    with pytest.raises(ModelError, match="expected the language model"):
        require_smartedit(BackboneConfig(model=str(folder)))
    for where in ("../nowhere", "nowhere", "a/b/c"):
        name_mllm(folder, where)
        with pytest.raises(ModelError, match=f"no language model in {folder}/{where}, where {folder} has it"):
            require_smartedit(BackboneConfig(model=str(folder)))
    name_mllm(folder, "nobody/no-such-llava")
    with pytest.raises(ModelError, match=r"nobody/no-such-llava is not on this machine .*`hf download nobody"):
        require_smartedit(BackboneConfig(model=str(folder), offline=True))


def test_a_language_model_elsewhere_is_found_and_told_from_another(folder: Path, tmp_path: Path) -> None:
    config = BackboneConfig(model=str(folder), model_dir=tmp_path, offline=True)
    before = fingerprint_mllm(config)
    shutil.move(folder / "mllm", tmp_path / "llava")
    for where in ("../llava", "owner/llava"):
        name_mllm(folder, where)
        require_smartedit(config)
        assert fingerprint_mllm(config) == before
    weights = tmp_path / "llava" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    assert fingerprint_mllm(config) != before
    shutil.rmtree(tmp_path / "llava")
    assert fingerprint_mllm(config) == "owner/llava@default branch"


def test_on_the_hub_the_name_tells() -> None:
    assert fingerprint_mllm(BackboneConfig(model="owner/smart", revision="abc")) == "owner/smart@abc"
