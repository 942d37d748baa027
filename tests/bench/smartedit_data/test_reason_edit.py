"""Reason-Edit as it is downloaded."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from maskedit.bench.smartedit_data.reason_edit import COMPLETE, REASONING, UNDERSTANDING, ReasonEdit, open_reason_edit
from maskedit.editors import InputError, load_image, save_image

FOLDERS = {**UNDERSTANDING, **REASONING}


def write_folder(root: Path, name: str, count: int, *, height: int = 6) -> None:
    for number in range(count):
        picture = torch.rand(1, 3, height, 8, generator=torch.Generator().manual_seed(number))
        save_image(picture, root / name / f"{number:03d}.png")
        levels = np.zeros((height, 8), np.uint8)
        levels[:2, number % 8] = 255
        PilImage.fromarray(levels).save(root / name / f"{number:03d}_mask.jpg", quality=95)
    lines = [f"change the left cat {number} CLIP: dog {number}\n" for number in range(count)]
    (root / name / FOLDERS[name]).write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    for name in FOLDERS:
        write_folder(root, name, 2 if name in UNDERSTANDING else 3)
    return root


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "own"))


def test_samples_come_in_the_order_of_their_names(whole: Path) -> None:
    read = open_reason_edit(whole)
    assert isinstance(read, ReasonEdit) and len(read) == 13
    assert [item.folder for item in read] == [name for name in UNDERSTANDING for _ in range(2)] + ["6-Reasoning"] * 3
    item = read[3]
    assert (item.folder, item.name) == ("2-Relative-Size", "001")
    assert (item.instruction, item.label) == ("change the left cat 1", "dog 1")
    assert (item.is_reasoning, read[12].is_reasoning) == (False, True)
    assert torch.equal(item.image, load_image(whole / "2-Relative-Size" / "001.png"))


def test_masks_keep_the_levels_of_their_files(whole: Path) -> None:
    item = open_reason_edit(whole)[3]
    with PilImage.open(whole / "2-Relative-Size" / "001_mask.jpg") as opened:
        levels = np.array(opened.convert("L"))
    assert item.mask.shape == (1, 1, 6, 8)
    assert np.array_equal((item.mask[0, 0].numpy() * 255).round().astype(np.uint8), levels)
    assert ((levels > 0) & (levels < 9)).any()


def test_the_whole_set_is_known_by_its_size(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = open_reason_edit(whole)
    assert COMPLETE == 219 and not read.is_complete
    assert read.summary == "Reason-Edit: 13 of 219 samples"
    monkeypatch.setattr("maskedit.bench.smartedit_data.reason_edit.COMPLETE", 13)
    assert read.is_complete
    write_folder(tmp_path, "3-Mirror", 1)
    part = open_reason_edit(tmp_path)
    assert part.missing == tuple(name for name in FOLDERS if name != "3-Mirror")
    assert part.summary.startswith("Reason-Edit: 1 of 13 samples, without 1-Left-Right, 2-Relative-Size, 4-Color")


def test_numbers_without_zeros_keep_their_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, "4-Color", 2)
    folder = tmp_path / "4-Color"
    for old, new in (("000", "1"), ("001", "10")):
        for ending in (".png", "_mask.jpg"):
            (folder / f"{old}{ending}").rename(folder / f"{new}{ending}")
    assert sorted(path.name for path in folder.glob("*.jpg"))[0] == "10_mask.jpg"
    first = open_reason_edit(tmp_path)[0]
    assert first.name == "1" and first.mask[0, 0, 0, 0] > 0.5 > first.mask[0, 0, 0, 1]


def test_masks_of_other_names_go_by_order(tmp_path: Path) -> None:
    write_folder(tmp_path, "4-Color", 2)
    for number in range(2):
        path = tmp_path / "4-Color" / f"{number:03d}_mask.jpg"
        path.rename(path.with_name(f"cat_{number}_mask.jpg"))
    assert open_reason_edit(tmp_path)[1].mask[0, 0, 0, 1] > 0.5


def test_wrong_counts_are_told(own: Path) -> None:
    (own / "1-Left-Right" / "001_mask.jpg").unlink()
    with pytest.raises(InputError, match=r"1-Left-Right has 1 masks for 2 pictures, e\.g\. no 001_mask\.jpg"):
        open_reason_edit(own)
    (own / "1-Left-Right" / "000_mask.jpg").rename(own / "1-Left-Right" / "001_mask.jpg")
    shutil.copy(own / "1-Left-Right" / "001_mask.jpg", own / "1-Left-Right" / "cat_mask.jpg")
    with pytest.raises(InputError, match=r"1-Left-Right has no 000_mask\.jpg: expected a mask for each picture"):
        open_reason_edit(own)


def test_lists_are_checked_line_by_line(own: Path) -> None:
    path = own / "6-Reasoning" / "Reason_test.txt"
    path.write_text("a CLIP: b\n" * 2)
    with pytest.raises(InputError, match=r"Reason_test\.txt has 2 lines for 3 pictures"):
        open_reason_edit(own)
    path.write_text("a CLIP: b\na b\nc CLIP: d\n\n\n")
    with pytest.raises(InputError, match=r"Reason_test\.txt, line 2: expected 'INSTRUCTION CLIP: LABEL', got 'a b'"):
        open_reason_edit(own)
    path.write_text("a CLIP: b\na CLIP: \nc CLIP: d")
    with pytest.raises(InputError, match=r"Reason_test\.txt, line 2"):
        open_reason_edit(own)
    path.unlink()
    with pytest.raises(InputError, match=r"6-Reasoning has no Reason_test\.txt"):
        open_reason_edit(own)


def test_other_frames_and_broken_files_are_told(own: Path, tmp_path: Path) -> None:
    read = open_reason_edit(own)
    save_image(torch.zeros(1, 1, 8, 8), own / "3-Mirror" / "000_mask.jpg")
    with pytest.raises(InputError, match=r"000_mask\.jpg has 8 x 8 pixels, its picture 8 x 6: expected the same frame"):
        read[4]
    save_image(torch.zeros(1, 1, 12, 16), own / "3-Mirror" / "000_mask.jpg")
    assert read[4].mask.shape == (1, 1, 12, 16)
    (own / "3-Mirror" / "001.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"cannot read .*001\.png as a picture"):
        read[5]
    with pytest.raises(InputError, match=r"no Reason-Edit in .*: expected the folders 1-Left-Right, "):
        open_reason_edit(tmp_path / "nowhere")
