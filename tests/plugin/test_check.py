"""Finding out early that a checkpoint is missing, of the wrong kind, or can't do what is asked."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from maskedit.editors import (
    GroundingConfig,
    InpaintConfig,
    InputError,
    InstructBrushConfig,
    InstructEditConfig,
    Instruction,
    LanguageConfig,
    LanguageError,
    MDPConfig,
    ModelError,
    ParseError,
    VisiiConfig,
)
from maskedit.plugin.check import check_device, check_editor_is_there, check_language_is_there
from maskedit.plugin.editor import SceneEditorConfig

RED = (Instruction(text="make the cube red"),)


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


def test_what_makes_a_tokenizer_complete_is_what_loading_asks_for(
    ip2p_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskedit.editors.core.loading._VOCABULARIES", ({"of another kind"},))
    with pytest.raises(ModelError, match=r"tokenizer of the checkpoint .* is missing or incomplete"):
        check_editor_is_there(SceneEditorConfig(model=str(ip2p_folder)), RED, fetch=False)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("foi", "sd_folder"),
        ("instructedit", "ip2p_folder"),
        ("diffedit", "inpainting_folder"),
        ("mdp", "ip2p_folder"),
        ("inpaint", "sd_folder"),
    ],
)
def test_the_wrong_kind_of_checkpoint_is_one_line(name: Any, folder: str, request: pytest.FixtureRequest) -> None:
    config = SceneEditorConfig(name=name, model=str(request.getfixturevalue(folder)))
    with pytest.raises(ModelError, match=f"{name} needs an? .* checkpoint.*set --pipeline.editor.model") as raised:
        check_editor_is_there(config, RED, fetch=False)
    assert "\n" not in str(raised.value)


def test_every_kind_of_checkpoint_is_accepted_by_its_editors(sd_folder: Path, inpainting_folder: Path) -> None:
    for name in ("instructedit", "diffedit", "mdp"):
        check_editor_is_there(SceneEditorConfig(name=name, model=str(sd_folder)), RED, fetch=False)
    check_editor_is_there(SceneEditorConfig(name="inpaint", model=str(inpainting_folder)), RED, fetch=False)


def test_a_brush_is_missed_early(ip2p_folder: Path, brush_file: Path) -> None:
    def check(name: Any, brush: Path | None) -> None:
        options: dict[str, Any] = {"instructbrush": InstructBrushConfig(brush=brush), "visii": VisiiConfig(brush=brush)}
        check_editor_is_there(SceneEditorConfig(name=name, model=str(ip2p_folder), **options), RED, fetch=True)

    check("instructbrush", brush_file)
    bare = (Instruction(text=brush_file.stem),)
    options = InstructBrushConfig(brush=brush_file)
    config = SceneEditorConfig(name="instructbrush", model=str(ip2p_folder), instructbrush=options)
    check_editor_is_there(config, bare, fetch=False)
    check_language_is_there(config)
    with pytest.raises(InputError, match=r"got none: pass --pipeline.editor.instructbrush.brush FILE"):
        check("instructbrush", None)
    with pytest.raises(InputError, match=r"is a brush of instructbrush: pass --pipeline.editor.name instructbrush"):
        check("visii", brush_file)


def test_smartedit_is_missed_early_and_what_it_builds_on_is_not(smartedit_checkpoint: Path, ip2p_folder: Path) -> None:
    """Its autoencoder is that of another checkpoint, and its language model reads longer texts than the encoder."""
    long = (Instruction(text="make the cube red, " + "and then much redder, " * 20),)
    for fetch in (False, True):
        check_editor_is_there(SceneEditorConfig(name="smartedit", model=str(smartedit_checkpoint)), long, fetch=fetch)
    check_language_is_there(SceneEditorConfig(name="smartedit"))
    for model, expected in ((str(ip2p_folder), r"smartedit/config\.json"), (None, "maskedit convert smartedit")):
        with pytest.raises(ModelError, match=expected) as raised:
            check_editor_is_there(SceneEditorConfig(name="smartedit", model=model, offline=True), RED, fetch=False)
        assert "\n" not in str(raised.value)


def test_models_that_find_objects_are_missed_before_hours_are_spent(
    sd_folder: Path, sam_file: Path, grounding_dino_folder: Path
) -> None:
    def check(**grounding: str) -> None:
        options = InstructEditConfig(grounding=GroundingConfig(**grounding))
        config = SceneEditorConfig(name="instructedit", model=str(sd_folder), instructedit=options, offline=True)
        check_editor_is_there(config, RED, fetch=True)

    with pytest.raises(ModelError, match="the detector nobody/dino is not on this machine"):
        check(detector="nobody/dino", sam=str(sam_file))
    with pytest.raises(ModelError, match=r"no weights of SAM at 'nowhere\.pth'"):
        check(detector=str(grounding_dino_folder), sam="nowhere.pth")
    check(detector=str(grounding_dino_folder), sam=str(sam_file))


def test_settings_of_another_language_provider_are_refused() -> None:
    config = SceneEditorConfig(name="mdp", mdp=MDPConfig(language=LanguageConfig(model="m")))
    flag = "--pipeline.editor.mdp.language"
    with pytest.raises(InputError, match=rf"rules reads no {flag}\.model: .* pass {flag}\.provider chat or openai"):
        check_language_is_there(config)
    check_language_is_there(SceneEditorConfig(mdp=config.mdp))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("blorb", ParseError, "expected a request to edit"),
        ("make it look like winter", InputError, r"no object to look for.*instructedit\.global-edit True"),
        ("make the cube red and the " + "very " * 20 + "big sphere blue", InputError, "caption of at most 75 tokens"),
    ],
)
def test_plans_of_the_rules_are_checked_early(text: str, error: type, message: str, sd_folder: Path) -> None:
    config = SceneEditorConfig(name="instructedit", model=str(sd_folder))
    with pytest.raises(error, match=message) as raised:
        check_editor_is_there(config, (Instruction(text=text),), fetch=False)
    assert "\n" not in str(raised.value)


def test_whole_pictures_may_be_edited_when_that_is_said(sd_folder: Path) -> None:
    winter = (Instruction(text="make it look like winter"),)
    options = InstructEditConfig(global_edit=True)
    check_editor_is_there(
        SceneEditorConfig(name="instructedit", model=str(sd_folder), instructedit=options), winter, fetch=False
    )
    check_editor_is_there(SceneEditorConfig(name="mdp", model=str(sd_folder)), winter, fetch=False)


def test_a_language_server_without_a_key_is_found_out_early(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = LanguageConfig(provider="openai")
    check_language_is_there(SceneEditorConfig(inpaint=InpaintConfig(language=server)))
    with pytest.raises(LanguageError, match="OPENAI_API_KEY"):
        check_language_is_there(SceneEditorConfig(name="inpaint", inpaint=InpaintConfig(language=server)))


def test_a_device_that_is_not_there_is_found_out_early(monkeypatch: pytest.MonkeyPatch) -> None:
    check_device("cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_device("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"pass --machine\.device-type cpu"):
        check_device("cuda")
