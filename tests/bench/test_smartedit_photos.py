"""SmartEdit's bench on Reason-Edit: means as the paper has them."""

from pathlib import Path

import pytest

from maskedit.bench.smartedit_data import open_reason_edit
from maskedit.bench.smartedit_methods import Backbones, ReadingMethod
from maskedit.bench.smartedit_options import SmartEditBenchConfig
from maskedit.bench.smartedit_photos import PhotoFigures, know_little
from maskedit.bench.smartedit_regions import RegionJudge
from maskedit.editors import BackboneConfig, IP2PConfig


def test_understanding_is_the_mean_over_samples(reason_edit_folder: Path, ip2p_folder: Path, tmp_path: Path) -> None:
    config = SmartEditBenchConfig(out=tmp_path, reason_edit=reason_edit_folder)
    checkpoint = BackboneConfig(model=str(ip2p_folder), device="cpu")
    figures = PhotoFigures(config, open_reason_edit(reason_edit_folder), RegionJudge(), Backbones())
    for name, editor in (("unedited", None), ("ip2p", IP2PConfig(steps=2))):
        figures.add(ReadingMethod(name=name, config=editor, checkpoint=checkpoint))
    rows = {(row["set"], row["method"]): row for row in figures.rows}
    assert list(rows) == [(s, m) for s in ("understanding", "reasoning") for m in ("unedited", "ip2p")]
    assert [row["pictures"] for row in rows.values()] == [3, 3, 1, 1]
    unedited, ip2p = rows["understanding", "unedited"], rows["understanding", "ip2p"]
    assert (unedited["psnr"], unedited["ssim"], unedited["exact"], unedited["seconds"]) == (None, 1, 1, 0)
    folders = {row["set"]: row for row in figures.details if row["method"] == "ip2p"}
    assert {name: row["pictures"] for name, row in folders.items()} == {
        "1-Left-Right": 2,
        "4-Color": 1,
        "6-Reasoning": 1,
    }
    mean = (2 * float(folders["1-Left-Right"]["psnr"] or 0) + float(folders["4-Color"]["psnr"] or 0)) / 3
    assert ip2p["psnr"] == pytest.approx(mean)
    assert rows["reasoning", "ip2p"]["psnr"] == folders["6-Reasoning"]["psnr"]
    assert ip2p["refused"] == 0 < float(ip2p["seconds"] or 0)
    assert (tmp_path / "reason_edit" / "ip2p" / "4-Color" / "0.png").is_file()


def test_checkpoints_that_know_no_photos_are_named(ip2p_folder: Path) -> None:
    embedded = BackboneConfig(model="embedded", offline=True, device="cpu")
    methods = [
        ReadingMethod(name="unedited", config=None, checkpoint=embedded),
        ReadingMethod(name="ip2p", config=IP2PConfig(), checkpoint=embedded),
        ReadingMethod(name="other", config=IP2PConfig(), checkpoint=BackboneConfig(model=str(ip2p_folder))),
    ]
    (note,) = know_little(methods)
    assert note.startswith("ip2p runs on a checkpoint that only knows")
