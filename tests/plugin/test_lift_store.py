"""Lifted masks on disk: what a key stands for, and that nothing half written counts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.editors import Captions, Instruction, SessionError
from maskedit.plugin.lift_regions import BoxRegion
from maskedit.plugin.lift_store import LiftKey, LiftStore
from maskedit.plugin.slot import Settings

RED = Settings(instructions=(Instruction(text="make it red", keyword="it"),))
BOX = BoxRegion(centre=(0.0, 0.0, 0.0), size=(1.0, 1.0, 1.0))
KEY = LiftKey.of(RED, ())


def test_a_key_stands_for_all_that_decides_and_nothing_else() -> None:
    same = replace(RED, instructions=(replace(RED.instructions[0], strength=3.0),), guidance_scale=9.0, is_paused=True)
    assert LiftKey.of(same, ()) == KEY
    others = [
        replace(RED, instructions=(Instruction(text="make it blue", keyword="it"),)),
        replace(RED, instructions=(Instruction(text="make it red", keyword="red"),)),
        replace(RED, instructions=(replace(RED.instructions[0], phrases=("it",)),)),
        replace(RED, editor="ip2p"),
        replace(RED, captions=(Captions(source="a", target="b"),)),
    ]
    assert len({LiftKey.of(each, ()).found for each in others} | {KEY.found}) == 6
    boxed, moved = LiftKey.of(RED, (BOX,)), LiftKey.of(RED, (replace(BOX, size=(1.0, 1.0, 2.0)),))
    assert boxed.found == moved.found == KEY.found
    assert len({boxed.lifted, moved.lifted, KEY.lifted}) == 3


def test_what_was_found_is_read_back_and_what_is_missing_is_not(tmp_path: Path) -> None:
    store = LiftStore(tmp_path)
    masks = (torch.zeros(4, 6), torch.full((4, 6), 0.2))
    assert store.found(KEY, 3, 2) is None
    store.save_found(KEY, 3, masks)
    read = store.found(KEY, 3, 2)
    assert read is not None
    assert all(torch.equal(one, other) for one, other in zip(read, masks, strict=True))
    assert store.found(KEY, 3, 3) is None
    assert store.found(KEY, 2, 2) is None


def test_lifted_masks_count_once_their_json_is_there(tmp_path: Path) -> None:
    store = LiftStore(tmp_path)
    region = {"yes": torch.arange(8.0), "all": torch.ones(8)}
    assert not store.is_lifted(KEY)
    store.save(KEY, [[torch.ones(4, 6)], [torch.zeros(4, 6)]], region, {"instructions": ["make it red"]})
    assert store.is_lifted(KEY)
    assert all((tmp_path / name).is_file() for view in (0, 1) for name in store.files(KEY, view, 1))
    assert torch.equal(store.region(KEY)["yes"], region["yes"])
    (tmp_path / "lifted" / f"masks-{KEY.lifted}" / "lifted.json").unlink()
    assert not store.is_lifted(KEY)


def test_a_damaged_region_is_named(tmp_path: Path) -> None:
    store = LiftStore(tmp_path)
    store.save(KEY, [[torch.ones(2, 2)]], {"yes": torch.ones(8)}, {})
    path = tmp_path / "lifted" / f"masks-{KEY.lifted}" / "region.safetensors"
    path.write_bytes(b"half")
    with pytest.raises(SessionError, match="it is lifted again"):
        store.region(KEY)
