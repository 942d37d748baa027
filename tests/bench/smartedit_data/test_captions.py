"""Captions in each form in which Conceptual 12M is had."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from maskedit.bench.smartedit_data.captions import CaptionFiles, CaptionLines, CaptionShards, open_captions
from maskedit.editors import InputError, SampleSource


def texts(source: SampleSource) -> list[str]:
    return [source.read(index, np.random.default_rng(0)).text for index in range(len(source))]


def test_lines_are_read_by_number(sets: Path) -> None:
    source = open_captions(sets / "cc12m" / "cc12m.tsv")
    assert isinstance(source, CaptionLines)
    assert texts(source) == ["a café at night", "two dogs"] == texts(open_captions(sets / "cc12m"))
    sample = source.read(1, np.random.default_rng(0))
    assert sample.image is None and sample.target is None and sample.answer is None


def test_the_last_line_need_not_end(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\tone\ny\ttwo")
    (tmp_path / "b.tsv").write_text("z\tthree\n")
    assert texts(open_captions(tmp_path)) == ["one", "two", "three"]


def test_lines_are_found_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskedit.bench.smartedit_data.captions._CHUNK", 5)
    (tmp_path / "a.tsv").write_text("".join(f"address{number}\tcaption {number}\n" for number in range(9)))
    assert texts(open_captions(tmp_path)) == [f"caption {number}" for number in range(9)]


def test_shards_are_read_without_unpacking(sets: Path) -> None:
    source = open_captions(sets / "cc12m" / "shards")
    assert isinstance(source, CaptionShards)
    assert texts(source) == ["shard 0 caption 0", "shard 1 caption 0", "shard 1 caption 1"]


def test_files_of_their_own_are_read(sets: Path) -> None:
    source = open_captions(sets / "cc12m" / "unpacked")
    assert isinstance(source, CaptionFiles)
    assert texts(source) == ["a lone caption"]


def test_damage_is_told_with_its_place(sets: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "a.tsv").write_text("x\tone\nno tab here\nz\t \n")
    source = open_captions(tmp_path)
    for index in (1, 2):
        with pytest.raises(InputError, match=rf"a\.tsv, line {index + 1}: expected an address, a tab and a caption"):
            source.read(index, rng)
    (tmp_path / "a.tsv").write_text("")
    with pytest.raises(InputError, match=r"a\.tsv is empty"):
        open_captions(tmp_path)
    (tmp_path / "a.tsv").unlink()
    with pytest.raises(InputError, match=r"no captions in .*: expected cc12m\.tsv"):
        open_captions(tmp_path)
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"expected a caption, found none at .*a\.txt"):
        open_captions(tmp_path).read(0, rng)
    shutil.copy(sets / "coco" / "train2017" / "000000000001.jpg", tmp_path / "a.tar")
    with pytest.raises(InputError, match=r"cannot read .*a\.tar as a shard"):
        open_captions(tmp_path)
    with pytest.raises(InputError, match="no captions at"):
        open_captions(tmp_path / "nowhere")
