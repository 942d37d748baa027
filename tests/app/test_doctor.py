"""`maskedit doctor` tells the truth about checkpoints that are there, broken or missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskedit.app.doctor import PUBLISHED, examine_checkpoint
from maskedit.editors import BackboneConfig


def test_findings_are_json(call: Callable[..., Any], ip2p_folder: Path) -> None:
    done = call("doctor", "--json", "--model", ip2p_folder)
    assert done.code == 0, done.err
    findings = json.loads(done.out)
    assert findings["packages"]["torch"]
    assert findings["devices"][0]["name"] == "cpu"
    assert findings["disk_free_gb"] > 0
    assert "maskedit" in findings["ns_train_methods"]
    states = {state["model"]: state for state in findings["checkpoints"]}
    assert states[str(ip2p_folder)]["loads"] is True
    assert set(states) == {"embedded", PUBLISHED["instruct-pix2pix"], str(ip2p_folder)}
    for editor in findings["editors"].values():
        assert str(ip2p_folder) in editor["usable"]
        assert editor["missing"] == []


def test_tables_name_what_is_missing(call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = call("doctor", "--no-load", "--model", tmp_path)
    assert done.code == 0, done.err
    assert "nerfstudio" in done.out
    assert f"model {tmp_path}" in done.out
    assert "no model_index.json" in done.out


def test_a_checkpoint_of_another_kind_does_not_load(sd_folder: Path) -> None:
    state = examine_checkpoint(BackboneConfig(model=str(sd_folder), device="cpu"), load=True)
    assert state.loads is False
    assert "InstructPix2Pix" in state.note


def test_a_damaged_checkpoint_does_not_load(ip2p_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(ip2p_folder, folder)
    shutil.rmtree(folder / "unet")
    config = BackboneConfig(model=str(folder), device="cpu")
    assert examine_checkpoint(config, load=True).loads is False
    assert examine_checkpoint(config, load=False).loads is None


def test_what_is_not_here_comes_with_advice() -> None:
    state = examine_checkpoint(BackboneConfig(model="nobody/no-such-model", offline=True), load=True)
    assert (state.place, state.loads) == (None, None)
    assert "hf download nobody/no-such-model" in state.note
