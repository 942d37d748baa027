"""The edit of a run, and what it keeps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import Editor, InputError, Instruction, SessionError, load_image, load_mask
from maskedit.video.edit_run import EditOrder
from maskedit.video.frame_mask import FrameMask
from maskedit.video.stages import VideoRun

BLUE = Instruction(text="make the red cube blue")


def painted(frame: int = 2) -> FrameMask:
    mask = torch.zeros(1, 1, 32, 48)
    mask[..., 2:8, 4:12] = 1
    return FrameMask(frame=frame, mask=mask)


def test_pictures_and_record_of_an_edit(finished_run: Path) -> None:
    folder = finished_run / "edit"
    sheet, mask, edited = (load_image(folder / f"{name}.png") for name in ("sheet", "sheet_mask", "sheet_edited"))
    assert sheet.shape == mask.shape == edited.shape
    assert torch.equal(sheet[mask == 0], edited[mask == 0]) and not torch.equal(sheet, edited)
    record = json.loads((folder / "edit.json").read_text())
    assert record["instructions"][0]["text"] == BLUE.text and record["seed"] == 0 and record["arrange"] == "sheet"
    assert record["traces"][0]["editor"] == "inpaint" and record["settings"] == {"editor": "inpaint"}
    assert record["masked"] == pytest.approx(float((mask[:, 0] > 0).float().mean()), abs=1e-5)


def test_a_painted_mask_decides_where(
    finished_run: Path, tmp_path: Path, red_editor: Editor, run_edit: dict[str, Any]
) -> None:
    run = VideoRun(Path(shutil.copytree(finished_run, tmp_path / "run")))
    assert not run.edit(lambda: red_editor, **run_edit, mask=painted()).was_reused
    assert run.edit(lambda: red_editor, **run_edit, mask=painted()).was_reused
    assert not run.edit(lambda: red_editor, **run_edit, mask=painted(3)).was_reused
    for segment in (0, 1):
        share = (load_mask(tmp_path / "run" / "edit" / f"segment_00{segment}_layer_0_mask.png") > 0.5).sum()
        assert 30 <= share <= 80


def test_an_edit_that_breaks_off_is_not_taken_for_done(
    finished_run: Path, tmp_path: Path, red_editor: Editor, run_edit: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run = VideoRun(Path(shutil.copytree(finished_run, tmp_path / "run")))
    with monkeypatch.context() as patch:
        patch.setattr("maskedit.video.edit_run.write_json", lost)
        with pytest.raises(KeyboardInterrupt):
            run.edit(lambda: red_editor, **run_edit, seed=1)
    with pytest.raises(SessionError, match="nothing is edited"):
        VideoRun(run.folder).render()
    assert not VideoRun(run.folder).edit(lambda: red_editor, **run_edit).was_reused
    for name in ("sheet_edited.png", "segment_001_layer_0.png"):
        assert (run.folder / "edit" / name).read_bytes() == (finished_run / "edit" / name).read_bytes()


def test_whatever_decides_the_edit_is_recorded() -> None:
    plain = EditOrder(instructions=(BLUE,), settings={"a": 1})
    others = [
        replace(plain, instructions=(replace(BLUE, strength=2.0),)),
        replace(plain, settings={"a": 2}),
        replace(plain, seed=1),
        replace(plain, arrange="batch"),
        replace(plain, only_layers=(0,)),
        replace(plain, mask=painted()),
        replace(plain, mask=painted(3)),
    ]
    records = [json.dumps(each.record()) for each in (plain, *others)]
    assert len(set(records)) == len(records)


def test_a_mask_of_one_instruction_is_refused() -> None:
    with pytest.raises(InputError, match="paint one mask for all, on a frame"):
        EditOrder(instructions=(replace(BLUE, mask=torch.ones(1, 1, 8, 8)),), settings={})


def test_a_refused_edit_leaves_the_one_before(finished_run: Path, tmp_path: Path, run_edit: dict[str, Any]) -> None:
    run = VideoRun(Path(shutil.copytree(finished_run, tmp_path / "run")))
    before = (run.folder / "edit" / "edit.json").read_bytes()

    def refuse() -> Editor:
        raise InputError("no such thing")

    with pytest.raises(InputError, match="no such thing"):
        run.edit(refuse, **{**run_edit, "seed": 9})
    assert (run.folder / "edit" / "edit.json").read_bytes() == before
    assert run.render(tmp_path / "again.gif").frames > 1
