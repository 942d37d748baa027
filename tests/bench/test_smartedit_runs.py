"""Runs of SmartEdit's bench are kept, taken as they are, and made anew where something differs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks.pairs import EditPairs
from maskedit.bench.blocks.reading import make_reading_pairs
from maskedit.bench.outcome import Outcome
from maskedit.bench.smartedit_data import ReasonEdit, open_reason_edit
from maskedit.bench.smartedit_methods import Backbones, ReadingMethod
from maskedit.bench.smartedit_runs import _read_outcomes, _write_outcomes, read_photo, run_pairs, run_photos
from maskedit.editors import IP2P, Backbone, BackboneConfig, EditRequest, InstructEditConfig, Instruction, IP2PConfig


class NoBackbones(Backbones):
    """Fails where a checkpoint is loaded."""

    def load(self, method: ReadingMethod) -> Backbone:
        raise AssertionError(f"{method.name} was run again")


@pytest.fixture(scope="module")
def checkpoint(ip2p_folder: Path) -> BackboneConfig:
    return BackboneConfig(model=str(ip2p_folder), device="cpu")


@pytest.fixture(scope="module")
def method(checkpoint: BackboneConfig) -> ReadingMethod:
    return ReadingMethod(name="ip2p", config=IP2PConfig(steps=2), checkpoint=checkpoint)


@pytest.fixture(scope="module")
def backbones() -> Backbones:
    return Backbones()


@pytest.fixture(scope="module")
def pairs() -> list[EditPairs]:
    return [make_reading_pairs("validation", part, which="understanding") for part in (range(2), range(2, 3))]


@pytest.fixture(scope="module")
def items(reason_edit_folder: Path) -> ReasonEdit:
    return open_reason_edit(reason_edit_folder)


def test_what_is_shown_needs_no_run(pairs: list[EditPairs], checkpoint: BackboneConfig, tmp_path: Path) -> None:
    for name, side in (("unedited", "source"), ("truth", "target")):
        shown = ReadingMethod(name=name, config=None, checkpoint=checkpoint)
        outcomes = run_pairs(shown, pairs, tmp_path / name, NoBackbones())
        assert all(torch.equal(o.raw, getattr(batch, side)) for o, batch in zip(outcomes, pairs, strict=True))
    assert not list(tmp_path.iterdir())


def test_pictures_are_those_of_the_editor_and_are_kept(
    method: ReadingMethod, pairs: list[EditPairs], backbones: Backbones, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    first = run_pairs(method, pairs, tmp_path / "ip2p", backbones, lambda *now: seen.append(now))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    text = pairs[1].specs[0].instruction
    request = EditRequest(image=pairs[1].source, instructions=(Instruction(text=text),), seeds=(2,))
    config = IP2PConfig(steps=2, keep_outside="paper")
    torch.testing.assert_close(first[1].raw, IP2P(backbones.load(method), config).edit(request).image)
    # In other batches the same pictures are the same run.
    whole = make_reading_pairs("validation", range(3), which="understanding")
    (again,) = run_pairs(method, [whole], tmp_path / "ip2p", NoBackbones())
    assert torch.equal(again.raw, torch.cat([outcome.raw for outcome in first]))
    assert torch.equal(again.kept, torch.cat([outcome.kept for outcome in first]))
    assert again.mask is None
    assert again.seconds > 0


def test_what_differs_is_made_anew(
    method: ReadingMethod, pairs: list[EditPairs], backbones: Backbones, tmp_path: Path
) -> None:
    first = run_pairs(method, pairs[1:], tmp_path / "ip2p", backbones)
    with pytest.raises(AssertionError, match="run again"):
        run_pairs(replace(method, config=IP2PConfig(steps=3)), pairs[1:], tmp_path / "ip2p", NoBackbones())
    other = make_reading_pairs("validation", range(2, 3), which="understanding", phrasing="held-out")
    assert other.specs[0].instruction != pairs[1].specs[0].instruction
    with pytest.raises(AssertionError, match="run again"):
        run_pairs(method, [other], tmp_path / "ip2p", NoBackbones())
    second = run_pairs(method, [other], tmp_path / "ip2p", backbones)
    assert not torch.equal(first[0].raw, second[0].raw)


def test_masks_and_refusals_are_kept_too(tmp_path: Path) -> None:
    def outcome(count: int, seed: int, seconds: float, refused: tuple[int, ...]) -> Outcome:
        made = torch.rand(count, 7, 8, 8, generator=torch.Generator().manual_seed(seed)).split((3, 3, 1), 1)
        raw, kept, mask = made
        return Outcome(raw=raw, kept=kept, mask=mask, seconds=seconds, refused=frozenset(refused))

    first, second = outcome(2, 0, 1.0, (1,)), outcome(3, 1, 2.0, (0, 2))
    _write_outcomes(tmp_path / "run", {"a": 1}, [first, second])
    assert _read_outcomes(tmp_path / "run", {"a": 2}, (2, 3)) is None
    again = _read_outcomes(tmp_path / "run", {"a": 1}, (2, 3))
    assert again is not None
    for one, other in zip(again, (first, second), strict=True):
        assert torch.equal(one.raw, other.raw)
        assert torch.equal(one.kept, other.kept)
        assert torch.equal(one.mask, other.mask)
        assert (one.refused, one.seconds) == (other.refused, pytest.approx(1.6))
    whole = _read_outcomes(tmp_path / "run", {"a": 1}, (5,))
    assert whole is not None
    assert whole[0].refused == {1, 2, 4}


def test_photos_are_kept_one_by_one(
    method: ReadingMethod, items: ReasonEdit, backbones: Backbones, tmp_path: Path
) -> None:
    photos = run_photos(method, items, tmp_path, backbones)
    assert [photo.path.relative_to(tmp_path).as_posix() for photo in photos] == [
        "1-Left-Right/0.png",
        "1-Left-Right/1.png",
        "4-Color/0.png",
        "6-Reasoning/0.png",
    ]
    assert not any(photo.refused for photo in photos)
    request = EditRequest(image=items[2].image, instructions=(Instruction(text=items[2].instruction),), seeds=(2,))
    expected = IP2P(backbones.load(method), IP2PConfig(steps=2, keep_outside="paper")).edit(request).image
    assert float((read_photo(photos[2]) - expected).abs().max()) <= 0.51 / 255
    assert run_photos(method, items, tmp_path, NoBackbones()) == photos
    # One that was lost is made anew, alone.
    photos[1].path.unlink()
    before = photos[0].path.stat().st_mtime_ns
    run_photos(method, items, tmp_path, backbones)
    assert photos[1].path.is_file()
    assert photos[0].path.stat().st_mtime_ns == before
    with pytest.raises(AssertionError, match="run again"):
        run_photos(replace(method, config=IP2PConfig(steps=3)), items, tmp_path, NoBackbones())


def test_a_method_that_does_not_understand_leaves_the_picture(reason_edit_folder: Path, tmp_path: Path) -> None:
    """Told by the real rules of the language parser, on the embedded set."""
    shutil.copytree(reason_edit_folder / "6-Reasoning", tmp_path / "6-Reasoning")
    (tmp_path / "6-Reasoning" / "Reason_test.txt").write_text("lovely weather CLIP: a cube")
    items = open_reason_edit(tmp_path)
    embedded = BackboneConfig(model="embedded", offline=True, device="cpu")
    method = ReadingMethod(name="instructedit", config=InstructEditConfig(steps=2), checkpoint=embedded)
    (photo,) = run_photos(method, items, tmp_path / "out", Backbones())
    assert photo.refused
    assert torch.equal(read_photo(photo), items[0].image)
    record = json.loads((tmp_path / "out" / "pictures.json").read_text())
    assert record["pictures"]["6-Reasoning/0"]["refused"] is True
