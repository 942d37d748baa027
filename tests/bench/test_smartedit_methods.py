"""Which methods are measured on which checkpoints, and what is said where one is not there."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskedit.bench import smartedit_methods
from maskedit.bench.smartedit_methods import Backbones, list_methods
from maskedit.bench.smartedit_options import SmartEditBenchConfig
from maskedit.editors import BackboneConfig, IP2PConfig, ModelError, SmartEditConfig

EMBEDDED = BackboneConfig(model="embedded", offline=True, device="cpu")


@pytest.fixture
def no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded set without a SmartEdit."""
    real = smartedit_methods.locate_checkpoint

    def locate(config: BackboneConfig, kind: Any) -> Path | str:
        if kind == "smartedit" and config.model == "embedded":
            raise ModelError("the embedded set is not installed")
        return real(config, kind)

    monkeypatch.setattr(smartedit_methods, "locate_checkpoint", locate)


@pytest.mark.usefixtures("no_reader")
def test_the_embedded_set_may_lack_a_smartedit() -> None:
    methods, notes = list_methods(EMBEDDED, SmartEditBenchConfig())
    assert [method.name for method in methods] == ["unedited", "truth", "ip2p", "foi", "instructedit"]
    assert notes == ("smartedit is left out: the embedded set has none; pass --smartedit-model FOLDER to measure one",)
    methods, _ = list_methods(EMBEDDED, SmartEditBenchConfig(), has_truth=False)
    assert [method.name for method in methods] == ["unedited", "ip2p", "foi", "instructedit"]


@pytest.mark.usefixtures("no_reader")
def test_a_method_that_was_asked_for_is_not_left_out() -> None:
    with pytest.raises(ModelError, match="pass --smartedit-model FOLDER, or leave smartedit out of --methods"):
        list_methods(EMBEDDED, SmartEditBenchConfig(methods=("smartedit",)))
    with pytest.raises(ModelError, match="leave truth out of --methods"):
        list_methods(EMBEDDED, SmartEditBenchConfig(methods=("truth",)), has_truth=False)


def test_what_is_not_there_names_the_flag(ip2p_folder: Path, tmp_path: Path) -> None:
    for folder, problem in ((tmp_path / "none", "found nothing at"), (ip2p_folder, "no smartedit/config.json in")):
        config = SmartEditBenchConfig(smartedit_model=str(folder))
        with pytest.raises(ModelError, match=rf"{problem}.*; pass --smartedit-model FOLDER, or leave smartedit out"):
            list_methods(EMBEDDED, config)
    missing = BackboneConfig(model_dir=tmp_path, model=None, offline=True, device="cpu")
    with pytest.raises(ModelError, match=r"instruct-pix2pix is not on this machine.*; or leave ip2p out of --methods"):
        list_methods(missing, SmartEditBenchConfig(methods=("ip2p",)))
    for folder in (tmp_path / "none", "owner/name"):
        with pytest.raises(ModelError, match="found no"):
            list_methods(EMBEDDED, SmartEditBenchConfig(methods=("ip2p",), variants=(f"mine={folder}",)))


def test_variants_are_run_by_what_they_are(ip2p_folder: Path, smartedit_checkpoint: Path) -> None:
    config = SmartEditBenchConfig(
        methods=("ip2p", "smartedit"),
        variants=(f"tuned={ip2p_folder}", f"none={smartedit_checkpoint}"),
        smartedit_model=str(smartedit_checkpoint),
        ip2p=IP2PConfig(steps=3),
        smartedit=SmartEditConfig(steps=2),
    )
    methods, notes = list_methods(EMBEDDED, config)
    assert notes == ()
    assert [(m.name, m.kind, m.origin) for m in methods] == [
        ("ip2p", "instruct-pix2pix", "embedded"),
        ("smartedit", "smartedit", str(smartedit_checkpoint)),
        ("tuned", "instruct-pix2pix", str(ip2p_folder)),
        ("none", "smartedit", str(smartedit_checkpoint)),
    ]
    assert [method.config for method in methods] == [config.ip2p, config.smartedit] * 2
    assert not any(method.has_mask for method in methods)


def test_settings_are_what_decides(ip2p_folder: Path) -> None:
    config = SmartEditBenchConfig(methods=("ip2p", "foi", "instructedit", "unedited"))
    (ip2p, foi, instructedit, unedited), _ = list_methods(EMBEDDED, config)
    assert unedited.settings() == {}
    assert (foi.has_mask, instructedit.has_mask, ip2p.has_mask) == (True, True, False)
    assert set(instructedit.settings()["tools"]) == {"segmenter"}  # pyright: ignore[reportCallIssue]
    same = replace(ip2p, config=IP2PConfig(chunk=1, keep_outside="paper"))
    assert same.settings() == ip2p.settings()
    assert replace(ip2p, config=IP2PConfig(steps=7)).settings() != ip2p.settings()
    elsewhere = BackboneConfig(model=str(ip2p_folder), device="cpu")
    assert replace(ip2p, checkpoint=elsewhere).settings() != ip2p.settings()


def test_the_language_model_is_part_of_what_decides(smartedit_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(smartedit_checkpoint, tmp_path / "mine")
    config = SmartEditBenchConfig(methods=("ip2p",), variants=(f"mine={tmp_path / 'mine'}",))
    ip2p, mine = list_methods(EMBEDDED, config)[0]
    before = mine.settings()
    assert (ip2p.settings()["language model"], before["language model"]) == ("", mine.settings()["language model"])
    assert before["language model"]
    (tmp_path / "mine" / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=r"no adapter/adapter_config\.json in"):
        list_methods(EMBEDDED, config)


def test_one_checkpoint_is_held_at_a_time(ip2p_folder: Path, sd_folder: Path) -> None:
    config = SmartEditBenchConfig(methods=("ip2p",), variants=(f"tuned={ip2p_folder}", f"other={sd_folder}"))
    (own, tuned, other), _ = list_methods(BackboneConfig(model=str(ip2p_folder), device="cpu"), config)
    backbones = Backbones()
    held = backbones.load(own)
    assert backbones.load(replace(own, name="again")) is held
    assert backbones.load(tuned) is held
    with pytest.raises(ModelError, match="other needs an InstructPix2Pix checkpoint"):
        backbones.load(other)
    assert backbones.load(own) is not held
