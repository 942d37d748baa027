"""The editor's flags, and finding out early that its checkpoint is missing."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from maskedit.editors import IP2P, PRESET_FILE, FoI, InputError, Instruction, IP2PConfig, ModelError
from maskedit.plugin.editor import SceneEditorConfig, check_editor_is_there

RED = (Instruction(text="make the cube red"),)


def test_the_name_chooses_the_options() -> None:
    assert SceneEditorConfig(name="foi").chosen == SceneEditorConfig().foi
    assert SceneEditorConfig(name="ip2p").chosen == SceneEditorConfig().ip2p


def test_guidance_changes_for_the_chosen_editor_alone() -> None:
    config = SceneEditorConfig(name="ip2p").with_guidance(9.0, None)
    assert (config.ip2p.guidance_scale, config.ip2p.image_guidance_scale) == (9.0, None)
    assert config.foi == SceneEditorConfig().foi
    assert SceneEditorConfig().with_guidance(None, None) == SceneEditorConfig()
    with pytest.raises(ValueError, match="guidance_scale"):
        SceneEditorConfig().with_guidance(0.5, None)


@pytest.mark.parametrize(("name", "kind"), [("foi", FoI), ("ip2p", IP2P)])
def test_the_chosen_editor_is_loaded(name: str, kind: type, ip2p_folder: Path) -> None:
    config = SceneEditorConfig(name=name, model=str(ip2p_folder), device="cpu")
    assert isinstance(config.make(config.load_backbone()), kind)


def test_a_missing_checkpoint_is_found_out_early(tmp_path: Path, ip2p_folder: Path) -> None:
    check_editor_is_there(SceneEditorConfig(model=str(ip2p_folder)), RED, fetch=True)
    with pytest.raises(ModelError, match=r"model_index\.json"):
        check_editor_is_there(SceneEditorConfig(model=str(tmp_path)), RED, fetch=False)
    with pytest.raises(ModelError, match="nothing at"):
        check_editor_is_there(SceneEditorConfig(model=str(tmp_path / "nowhere")), RED, fetch=False)


def test_the_hub_is_asked_only_when_the_first_edit_is_far_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    config = SceneEditorConfig(model="nobody/nothing", offline=True)
    check_editor_is_there(config, RED, fetch=False)
    with pytest.raises(ModelError, match=r"can't be reached.*model-dir"):
        check_editor_is_there(config, RED, fetch=True)


def test_a_checkpoint_of_another_kind_is_found_out_early(sd_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"8 input channels.*has 4: set --pipeline.editor.model"):
        check_editor_is_there(SceneEditorConfig(model=str(sd_folder)), RED, fetch=False)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (Instruction(text="cube " * 100), "shorten the text"),
        (Instruction(text="make the cubes red", keyword="cube"), "as whole words"),
    ],
)
def test_instructions_that_cannot_be_read_are_found_out_early(
    instruction: Instruction, message: str, ip2p_folder: Path
) -> None:
    with pytest.raises(InputError, match=message):
        check_editor_is_there(SceneEditorConfig(model=str(ip2p_folder)), (instruction,), fetch=False)


@pytest.mark.parametrize("part", ["unet/config.json", "vae/config.json", "tokenizer"])
def test_an_incomplete_checkpoint_is_found_out_early(part: str, ip2p_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(ip2p_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    target = folder / part
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(ModelError, match="fetch the whole checkpoint"):
        check_editor_is_there(SceneEditorConfig(model=str(folder)), RED, fetch=False)


def test_what_the_options_leave_open_is_the_checkpoints(ip2p_folder: Path, tmp_path: Path) -> None:
    config = SceneEditorConfig(model=str(ip2p_folder), name="ip2p", ip2p=IP2PConfig())
    assert (config.resolved("sampler"), config.resolved("steps")) == ("euler_ancestral", 100)
    scene = SceneEditorConfig(model=str(ip2p_folder))
    assert (scene.resolved("sampler"), scene.resolved("steps")) == ("ddim", 20)
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / PRESET_FILE).write_text('{"instruct": {"sampler": "ddim", "steps": 7}}')
    config = replace(config, model=str(tmp_path))
    assert [config.resolved(name) for name in ("sampler", "steps", "guidance_scale")] == ["ddim", 7, 7.5]
