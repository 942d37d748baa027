"""`maskedit doctor` tells the truth about checkpoints that are there, broken or missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskedit.app.doctor import (
    KINDS,
    PUBLISHED,
    CheckpointState,
    ToolState,
    _describe_editor,  # pyright: ignore[reportPrivateUsage]
    _examine_editor,  # pyright: ignore[reportPrivateUsage]
    examine_checkpoint,
    examine_tools,
)
from maskedit.editors import EDITORS, BackboneConfig, GroundingConfig

CLIPSEG, DINO, SAM = GroundingConfig().clipseg, GroundingConfig().detector, GroundingConfig().sam


def test_findings_are_json(call: Callable[..., Any], ip2p_folder: Path) -> None:
    done = call("doctor", "--json", "--model", ip2p_folder)
    assert done.code == 0, done.err
    findings = json.loads(done.out)
    assert findings["packages"]["torch"]
    assert findings["devices"][0]["name"] == "cpu"
    assert findings["disk_free_gb"] > 0
    assert "maskedit" in findings["ns_train_methods"]
    states = {(state["kind"], state["model"]): state for state in findings["checkpoints"]}
    assert set(states) == {(kind, name) for kind in KINDS for name in ("embedded", PUBLISHED[kind], str(ip2p_folder))}
    assert states["instruct-pix2pix", str(ip2p_folder)]["loads"] is True
    assert states["inpainting", str(ip2p_folder)]["loads"] is False
    assert set(findings["editors"]) == set(EDITORS)
    for name, editor in findings["editors"].items():
        fits = EDITORS[name].kind == "instruct-pix2pix"
        assert editor["needs"] == EDITORS[name].kind
        assert (str(ip2p_folder) in editor["usable"]) == fits
        assert (editor["needs"] in editor["missing"]) == (not editor["usable"])
        looks = name in ("instructedit", "inpaint")
        assert looks or not {"segmenter", "detector", "sam"} & {*editor["missing"]}
        assert {*editor["masks_only"]} <= {*editor["usable"]} if looks else not editor["masks_only"]


def test_tables_name_what_is_missing(call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = call("doctor", "--no-load", "--model", tmp_path)
    assert done.code == 0, done.err
    assert "nerfstudio" in done.out
    assert f"text-to-image {tmp_path}" in done.out
    assert "no model_index.json" in done.out


def test_a_checkpoint_of_another_kind_does_not_load(sd_folder: Path) -> None:
    state = examine_checkpoint(BackboneConfig(model=str(sd_folder), device="cpu"), "instruct-pix2pix", load=True)
    assert state.loads is False
    assert "InstructPix2Pix" in state.note


def test_a_damaged_checkpoint_does_not_load(ip2p_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(ip2p_folder, folder)
    shutil.rmtree(folder / "unet")
    config = BackboneConfig(model=str(folder), device="cpu")
    assert examine_checkpoint(config, "instruct-pix2pix", load=True).loads is False
    assert examine_checkpoint(config, "instruct-pix2pix", load=False).loads is None


def test_what_is_not_here_comes_with_advice() -> None:
    state = examine_checkpoint(BackboneConfig(model="nobody/no-such-model", offline=True), "inpainting", load=True)
    assert (state.place, state.loads) == (None, None)
    assert "hf download nobody/no-such-model" in state.note


def test_every_kind_is_tried_with_its_own_editor(sd_folder: Path, inpainting_folder: Path) -> None:
    for folder, kind in ((sd_folder, "text-to-image"), (inpainting_folder, "inpainting")):
        assert examine_checkpoint(BackboneConfig(model=str(folder), device="cpu"), kind, load=True).loads is True


def test_smartedit_is_looked_at_whole(smartedit_checkpoint: Path, ip2p_folder: Path) -> None:
    whole, plain = (
        examine_checkpoint(BackboneConfig(model=str(folder), device="cpu"), "smartedit", load=True)
        for folder in (smartedit_checkpoint, ip2p_folder)
    )
    assert (whole.loads, plain.loads) == (True, False)
    assert "smartedit/config.json" in plain.note
    published = examine_checkpoint(BackboneConfig(offline=True), "smartedit", load=True)
    assert (published.place, "maskedit convert smartedit" in published.note) == (None, True)


def test_the_embedded_set_may_be_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("maskedit.editors.parts.places", "maskedit.editors.core.checkpoint"):
        monkeypatch.setattr(f"{module}.files", lambda package: tmp_path)
    for kind in KINDS:
        state = examine_checkpoint(BackboneConfig(model="embedded"), kind, load=True)
        assert state.place is None
        assert ("has no SmartEdit" if kind == "smartedit" else "not installed") in state.note
    tool = examine_tools(None)[0]
    assert (tool.model, tool.place) == ("embedded", None)
    assert "not installed" in tool.note


def test_tools_are_found_in_the_model_folder(
    clipseg_folder: Path, blip2_folder: Path, sam_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "clipseg-rd64-refined").symlink_to(clipseg_folder)
    (tmp_path / "Salesforce").mkdir()
    (tmp_path / "Salesforce" / "blip2-flan-t5-xl").symlink_to(blip2_folder)
    (tmp_path / "sam_vit_h_4b8939.pth").symlink_to(sam_file)
    places = {tool.model: tool.place for tool in examine_tools(tmp_path)}
    assert places["CIDAS/clipseg-rd64-refined"] == str(tmp_path / "clipseg-rd64-refined")
    assert places["Salesforce/blip2-flan-t5-xl"] == str(tmp_path / "Salesforce" / "blip2-flan-t5-xl")
    assert places["sam_vit_h_4b8939.pth"] == str(tmp_path / "sam_vit_h_4b8939.pth")


def test_the_key_is_never_shown(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    for flags in ([], ["--json"]):
        done = call("doctor", "--no-load", *flags)
        assert done.code == 0, done.err
        assert "very-secret" not in done.out + done.err
    assert json.loads(done.out)["language_server"]["is_set"] is True
    monkeypatch.delenv("OPENAI_API_KEY")
    assert json.loads(call("doctor", "--no-load", "--json").out)["language_server"]["is_set"] is False


@pytest.mark.parametrize(
    ("here", "masks_only", "missing"),
    [
        ((), ["embedded", "sd"], ["segmenter", "detector", "sam"]),
        (("embedded",), ["sd"], ["detector", "sam"]),
        (("embedded", CLIPSEG), ["sd"], ["detector", "sam"]),
        (("embedded", DINO), ["sd"], ["sam"]),
        ((DINO, SAM), ["embedded"], ["segmenter"]),
        (("embedded", DINO, SAM), [], []),
    ],
)
def test_who_cannot_look_for_objects_is_not_plainly_ready(
    here: tuple[str, ...], masks_only: list[str], missing: list[str]
) -> None:
    roles = {"embedded": "segmenter", CLIPSEG: "segmenter", DINO: "detector", SAM: "sam"}
    tools = [ToolState(role=r, model=m, place=m if m in here else None, note="") for m, r in roles.items()]
    checkpoints = [
        CheckpointState(model=model, kind="text-to-image", place=model, loads=True, note="")
        for model in ("embedded", "sd")
    ]
    found = _examine_editor("instructedit", checkpoints, tools)
    assert (found["masks_only"], found["missing"]) == (masks_only, missing)
    said = _describe_editor(found)
    assert ("only where a mask is given" in said) == bool(masks_only)
    assert said.startswith("ready with") == (len(masks_only) < 2)
    blind = _examine_editor("mdp", checkpoints, tools)
    assert _describe_editor(blind) == "ready with embedded, sd"
