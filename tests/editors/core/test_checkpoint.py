"""Finding a checkpoint and reading its own settings, with errors that say what to do."""

import json
import shutil
from pathlib import Path

import pytest

from maskedit.editors import (
    PRESET_FILE,
    PUBLISHED,
    BackboneConfig,
    CaptionPreset,
    CheckpointKind,
    CheckpointPreset,
    FoIPreset,
    InstructPreset,
    ModelError,
    check_kind,
    has_language_model,
    load_preset,
    locate_checkpoint,
)
from maskedit.editors.core.checkpoint import fingerprint_weights, missing_message


def place(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    return folder


def test_a_folder_is_itself(tmp_path: Path) -> None:
    folder = place(tmp_path / "mine")
    assert locate_checkpoint(BackboneConfig(model=str(folder))) == folder


@pytest.mark.parametrize("where", ["owner/name", "name"])
def test_local_copies_come_before_the_hub(tmp_path: Path, where: str) -> None:
    folder = place(tmp_path / "weights" / where)
    assert locate_checkpoint(BackboneConfig(model="owner/name", model_dir=tmp_path / "weights")) == folder


def test_a_hub_id_without_a_copy_stays_an_id(tmp_path: Path) -> None:
    assert locate_checkpoint(BackboneConfig(model="owner/name", model_dir=tmp_path)) == "owner/name"


@pytest.mark.parametrize("model", ["nowhere", "./nowhere", "/nowhere/at/all", "a/b/c", "~/nowhere"])
def test_what_is_neither_is_one_clear_line(model: str) -> None:
    with pytest.raises(ModelError, match="expected a checkpoint folder or a hub id owner/name") as caught:
        locate_checkpoint(BackboneConfig(model=model))
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    with pytest.raises(ModelError, match=r"no model_index\.json in .*diffusers layout"):
        locate_checkpoint(BackboneConfig(model=str(tmp_path)))


def test_a_checkpoint_without_settings_has_the_published_ones(tmp_path: Path) -> None:
    preset = load_preset(place(tmp_path / "plain"))
    assert preset == CheckpointPreset()
    assert preset.instruct == InstructPreset(
        sampler="euler_ancestral", steps=100, guidance_scale=7.5, image_guidance_scale=1.5
    )
    assert preset.foi == FoIPreset(
        noise_level=0.8, mask_stride=4, mask_stages=("down", "mid", "up"), mask_squarings=3, mask_threshold=0.55
    )
    assert preset.caption == CaptionPreset(steps=50, guidance_scale=7.5, encoding_ratio=0.5, mask_threshold=0.5)


def test_a_hub_id_has_the_published_settings() -> None:
    assert load_preset("owner/name") == CheckpointPreset()


def test_own_settings_are_read(tmp_path: Path) -> None:
    folder = place(tmp_path / "own")
    stored = {
        "instruct": {"sampler": "ddim", "steps": 20, "guidance_scale": 2},
        "foi": {"mask_stages": ["up"]},
        "caption": {"encoding_ratio": 0.7},
        "knows": "blocks",
    }
    (folder / PRESET_FILE).write_text(json.dumps(stored))
    assert load_preset(folder) == CheckpointPreset(
        instruct=InstructPreset(sampler="ddim", steps=20, guidance_scale=2.0),
        foi=FoIPreset(mask_stages=("up",)),
        caption=CaptionPreset(encoding_ratio=0.7),
        knows="blocks",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"step": 20, "knows": "x"}', r"unknown settings \['step'\]"),
        ('{"instruct": {"step": 20}}', r"unknown settings \['step'\]"),
        ("{not json", "cannot read"),
        ("[1, 2]", "expected an object of settings"),
        ('{"foi": 3}', "foi must be an object of settings"),
        ('{"instruct": {"steps": "many"}}', "steps must be int"),
        ('{"instruct": {"steps": 0}}', "steps must be at least 1"),
        ('{"instruct": {"guidance_scale": 1}}', "guidance_scale must be above 1"),
        ('{"instruct": {"image_guidance_scale": 0.5}}', "image_guidance_scale must be at least 1"),
        ('{"foi": {"noise_level": 0}}', "noise_level must be in"),
        ('{"foi": {"mask_threshold": 2.0}}', "mask_threshold must be in"),
        ('{"foi": {"mask_stages": ["middle"]}}', "mask_stages must be"),
        ('{"instruct": {"sampler": "magic"}}', "sampler must be"),
        ('{"caption": {"encoding_ratio": 1.5}}', "encoding_ratio must be in"),
        ('{"caption": {"mask_resize": "round"}}', "mask_resize must be one of"),
        ('{"caption": {"guidance_scale": 0.5}}', "guidance_scale must be above 1"),
    ],
)
def test_settings_that_make_no_sense_are_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    folder = place(tmp_path / "own")
    (folder / PRESET_FILE).write_text(text)
    with pytest.raises(ModelError, match=message) as caught:
        load_preset(folder)
    assert PRESET_FILE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_embedded_set_is_found_or_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("maskedit.editors.core.checkpoint.files", lambda package: tmp_path)
    with pytest.raises(ModelError, match="maskedit train embedded"):
        locate_checkpoint(BackboneConfig(model="embedded"))
    place(tmp_path / "instruct-pix2pix")
    assert locate_checkpoint(BackboneConfig(model="embedded")) == tmp_path / "instruct-pix2pix"


@pytest.mark.parametrize("kind", ["instruct-pix2pix", "text-to-image", "inpainting"])
def test_what_an_editor_needs_decides_which_checkpoint_is_meant(
    kind: CheckpointKind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert locate_checkpoint(BackboneConfig(), kind) == PUBLISHED[kind]
    monkeypatch.setattr("maskedit.editors.core.checkpoint.files", lambda package: tmp_path)
    folder = place(tmp_path / kind)
    assert locate_checkpoint(BackboneConfig(model="embedded"), kind) == folder


@pytest.mark.parametrize("model", [None, "TencentARC/SmartEdit-13B"])
def test_smartedit_as_published_is_converted_first(model: str | None, tmp_path: Path) -> None:
    published = model or PUBLISHED["smartedit"]
    config = BackboneConfig(model=model, model_dir=tmp_path)
    with pytest.raises(ModelError, match=f"^{published} is published in .* `maskedit convert smartedit`"):
        locate_checkpoint(config, "smartedit")
    (tmp_path / published).mkdir(parents=True)
    with pytest.raises(ModelError, match=r"^no model_index\.json in .* `maskedit convert smartedit`"):
        locate_checkpoint(config, "smartedit")
    (tmp_path / published / "model_index.json").write_text("{}")
    assert locate_checkpoint(config, "smartedit") == tmp_path / published


def test_the_embedded_set_may_be_without_smartedit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("maskedit.editors.core.checkpoint.files", lambda package: tmp_path)
    with pytest.raises(ModelError, match="the embedded set has no SmartEdit: pass --model FOLDER"):
        locate_checkpoint(BackboneConfig(model="embedded"), "smartedit")
    folder = place(tmp_path / "smartedit")
    assert locate_checkpoint(BackboneConfig(model="embedded"), "smartedit") == folder


def test_a_checkpoint_in_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = place(tmp_path / "weights")
    assert locate_checkpoint(BackboneConfig(model="~/weights")) == folder
    shutil.rmtree(folder)


def test_what_is_missing_is_one_line_with_one_thing_to_do() -> None:
    assert missing_message("the detector", "a/b", model_dir=None) == (
        "the detector a/b is not on this machine (looked in the hub's cache), and --offline asks no further: fetch it "
        "with `hf download a/b`"
    )
    asked = missing_message("the detector", "a/b", model_dir=Path("here"), problem="x" * 200)
    assert f"(looked in here and the hub's cache), and the hub does not give it ({'x' * 100}...)" in asked
    assert asked.endswith("`hf download a/b --local-dir here/a/b`")


def test_a_vocabulary_tells_models_apart(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"one")
    before = fingerprint_weights(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"two")
    assert fingerprint_weights(tmp_path) != before


def test_smartedit_is_told_from_instruct_pix2pix(tmp_path: Path) -> None:
    """Their UNets read as many channels; one of them knows no texts."""
    folder = place(tmp_path / "own")
    assert not has_language_model(folder)
    (folder / "smartedit").mkdir()
    (folder / "smartedit" / "config.json").write_text("{}")
    assert has_language_model(folder)
    check_kind("smartedit", "smartedit", 8, 4, "own", told=True)
    check_kind("instruct-pix2pix", "foi", 8, 4, "own")
    with pytest.raises(ModelError, match=r"^foi needs an .* but 'own' is a SmartEdit .*--there"):
        check_kind("instruct-pix2pix", "foi", 8, 4, "own", told=True, flag="--there")


def test_who_needs_smartedit_is_sent_to_the_conversion() -> None:
    with pytest.raises(ModelError, match="has 4: set --model to a folder that `maskedit convert smartedit` made"):
        check_kind("smartedit", "smartedit", 4, 4, "own")
