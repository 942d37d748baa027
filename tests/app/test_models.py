"""Loading checkpoints for the commands."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from maskedit.app.models import load_backbone
from maskedit.editors import PRESET_FILE, BackboneConfig, CheckpointPreset, ModelError


def test_loading_prints_nothing(ip2p_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backbone = load_backbone(BackboneConfig(model=str(ip2p_folder)))
    assert backbone.native_size == 64
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_of_one_world_says_so(
    ip2p_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "small"
    shutil.copytree(ip2p_folder, folder)
    (folder / PRESET_FILE).write_text(json.dumps(asdict(CheckpointPreset(knows="the blocks world"))))
    load_backbone(BackboneConfig(model=str(folder)))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("maskedit: warning: ")
    assert "only knows the blocks world" in line


def test_missing_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model_index.json|found nothing"):
        load_backbone(BackboneConfig(model=str(tmp_path / "none")))
