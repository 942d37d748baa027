"""Edits with their pairs: from the blocks world, and from a folder in the layout of TOP-Bench."""

from pathlib import Path

import pytest
import torch

from maskedit.bench.brush_edits import EDITS
from maskedit.bench.brush_sets import TOP_BENCH_LOCAL, blocks_set, blocks_sets, choose_edits, read_top_bench
from maskedit.editors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two edits as they would be downloaded: one of the blocks world, one whose name is TOP-Bench's."""
    root = tmp_path_factory.mktemp("top_bench")
    for name in ("stripes", "faded"):
        blocks_set(EDITS[name], train=2, test=1, split="validation", height=32).save(root)
    (root / "faded").rename(root / "cloud_kitty")
    return root


def test_pairs_held_out_are_others() -> None:
    made = blocks_set(EDITS["stripes"], train=2, test=2, split="validation", height=32)
    assert (made.train.names, made.test.names) == (("0", "1"), ("2", "3"))
    assert not torch.equal(made.train.before, made.test.before)
    assert (made.name, made.scope, made.instruction) == ("stripes", "local", "paint stripes on the cubes")
    assert "cube" in made.content


def test_shots_are_the_first_pairs() -> None:
    (made,) = blocks_sets(("faded",), train=3, test=1, split="validation", height=32)
    assert torch.equal(made.shots(1).after, made.train.after[:1])
    assert made.mark(1) != made.mark(2)
    with pytest.raises(InputError, match="faded has 3 pairs to learn from, got 4 shots: ask for fewer"):
        made.shots(4)


def test_what_was_written_is_read_again(folder: Path) -> None:
    read = {each.name: each for each in read_top_bench(folder, size=32, multiple=8)}
    made = blocks_set(EDITS["stripes"], train=2, test=1, split="validation", height=32)
    assert list(read) == ["cloud_kitty", "stripes"]
    stripes = read["stripes"]
    assert (stripes.scope, stripes.instruction, stripes.content) == (made.scope, made.instruction, "")
    for part in ("train", "test"):
        for side in ("before", "after"):
            one, other = (getattr(getattr(each, part), side) for each in (stripes, made))
            torch.testing.assert_close(one, other, atol=0.5 / 255 + 1e-6, rtol=0)
    assert read["cloud_kitty"].scope == "local"


def test_pairs_are_brought_to_the_size_of_the_model(folder: Path) -> None:
    (read,) = read_top_bench(folder, ("stripes",), size=20, multiple=8)
    assert read.train.before.shape == (2, 3, 24, 24)


def test_names_of_top_bench_give_its_numbers() -> None:
    assert len(TOP_BENCH_LOCAL) == 11


def test_edits_are_chosen_by_name() -> None:
    assert choose_edits((), ("a", "b")) == ("a", "b")
    assert choose_edits(("b",), ("a", "b")) == ("b",)
    with pytest.raises(InputError, match="expected --edits among a, b, got 'c'"):
        choose_edits(("b", "c"), ("a", "b"))


def test_other_layouts_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder of edits, found none at"):
        read_top_bench(tmp_path / "nowhere", size=32, multiple=8)
    with pytest.raises(InputError, match="no edits in"):
        read_top_bench(tmp_path, size=32, multiple=8)
    (tmp_path / "edit" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=r"edit has no instruction.txt: expected ROOT/EDIT/train"):
        read_top_bench(tmp_path, size=32, multiple=8)
    (tmp_path / "edit" / "instruction.txt").write_text("make it so")
    with pytest.raises(InputError, match="edit has no test"):
        read_top_bench(tmp_path, size=32, multiple=8)
    (tmp_path / "edit" / "test").mkdir()
    with pytest.raises(InputError, match="no pairs in"):
        read_top_bench(tmp_path, size=32, multiple=8)
    (tmp_path / "edit" / "instruction.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="make it a line of text"):
        read_top_bench(tmp_path, size=32, multiple=8)
