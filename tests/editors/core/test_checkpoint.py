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
    fingerprint_checkpoint,
    load_preset,
    locate_checkpoint,
)
from maskedit.editors.core.checkpoint import locate_part, missing_message


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


def test_a_checkpoint_that_was_replaced_is_told_from_the_one_before(tmp_path: Path) -> None:
    folder = place(tmp_path / "mine")
    weights = folder / "unet" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(bytes(3_000_000))
    config = BackboneConfig(model=str(folder))
    before = fingerprint_checkpoint(config, "text-to-image")
    assert before == fingerprint_checkpoint(config, "text-to-image")
    shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint_checkpoint(BackboneConfig(model=str(tmp_path / "copy")), "text-to-image") == before
    # Only parts are read; that trained weights differ in all of them is what this relies on.
    weights.write_bytes(b"x" + bytes(2_999_999))
    assert fingerprint_checkpoint(config, "text-to-image") != before
    hub = BackboneConfig(model="owner/name", revision="abc")
    assert fingerprint_checkpoint(hub, "text-to-image") == "owner/name@abc"


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


def build_on(folder: Path, base: str) -> Path:
    (place(folder) / PRESET_FILE).write_text(json.dumps({"base": base}))
    return folder


def test_a_part_that_is_lacking_is_that_of_the_checkpoint_it_builds_on(tmp_path: Path) -> None:
    base, folder, config = place(tmp_path / "base"), build_on(tmp_path / "own", "../base"), BackboneConfig()
    (folder / "unet").mkdir()
    assert locate_part(folder, "unet", config) == (folder, config)
    found, same = locate_part(folder, "vae", config)
    assert (Path(found).resolve(), same) == (base, config)
    assert locate_part(folder, "", config) == (folder, config)
    assert locate_part(base, "vae", config) == (base, config)


def test_a_checkpoint_may_build_on_one_of_the_hub(tmp_path: Path) -> None:
    folder, config = build_on(tmp_path / "own", "owner/name"), BackboneConfig(revision="mine", model_dir=tmp_path / "w")
    found, there = locate_part(folder, "vae", config)
    assert (found, there.revision) == ("owner/name", None)
    local = place(tmp_path / "w/owner/name")
    assert locate_part(folder, "vae", config)[0] == local


def test_a_checkpoint_that_builds_on_nothing_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"found nothing at '\.\./base'"):
        locate_part(build_on(tmp_path / "own", "../base"), "vae", BackboneConfig())


def test_the_mark_of_a_checkpoint_follows_what_it_builds_on(tmp_path: Path) -> None:
    base, folder = place(tmp_path / "base"), build_on(tmp_path / "own", "../base")
    config = BackboneConfig(model=str(folder))
    before = fingerprint_checkpoint(config, "smartedit")
    (base / "weights.safetensors").write_bytes(b"other")
    assert fingerprint_checkpoint(config, "smartedit") != before
