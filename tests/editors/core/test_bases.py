"""Checkpoints that build on others: which of them has a part, and what tells them apart."""

import json
import shutil
from pathlib import Path

import pytest

from maskedit.editors import PRESET_FILE, BackboneConfig, ModelError
from maskedit.editors.core.bases import fingerprint_checkpoint, follow_bases, locate_part


def place(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    return folder


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


def test_the_mark_follows_a_local_copy_of_what_the_hub_has(tmp_path: Path) -> None:
    config = BackboneConfig(model=str(build_on(tmp_path / "own", "owner/name")), model_dir=tmp_path / "w")
    assert fingerprint_checkpoint(config, "smartedit").endswith(" on owner/name@default branch")
    base = place(tmp_path / "w/owner/name")
    before = fingerprint_checkpoint(config, "smartedit")
    assert "@" not in before
    (base / "weights.safetensors").write_bytes(b"other")
    assert fingerprint_checkpoint(config, "smartedit") != before


def test_what_it_builds_on_may_build_on_another(tmp_path: Path) -> None:
    place(tmp_path / "third")
    build_on(tmp_path / "second", "../third")
    config = BackboneConfig(model=str(build_on(tmp_path / "first", "../second")))
    for folder, part in (("first", "unet"), ("second", "tokenizer"), ("third", "tokenizer"), ("third", "vae")):
        (tmp_path / folder / part).mkdir()
    for part, owner in (("unet", "first"), ("tokenizer", "second"), ("vae", "third"), ("nowhere", "third")):
        found, _ = locate_part(tmp_path / "first", part, config)
        assert Path(found).resolve() == tmp_path / owner
    before = fingerprint_checkpoint(config, "smartedit")
    (tmp_path / "third" / "weights.safetensors").write_bytes(b"other")
    assert fingerprint_checkpoint(config, "smartedit") != before


def test_a_circle_is_one_clear_line(tmp_path: Path) -> None:
    first, second = build_on(tmp_path / "first", "../second"), build_on(tmp_path / "second", "../first")
    with pytest.raises(ModelError, match=r"second builds on '\.\./first', and that on .*: correct its") as caught:
        locate_part(first, "vae", BackboneConfig())
    assert "\n" not in str(caught.value)
    (second / "vae").mkdir()
    assert Path(locate_part(first, "vae", BackboneConfig())[0]).resolve() == second
    with pytest.raises(ModelError, match=r"builds on '\.'"):
        list(follow_bases(build_on(tmp_path / "self", "."), BackboneConfig()))
