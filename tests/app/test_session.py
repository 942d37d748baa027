"""`maskedit session`: tables and JSON of a real run, undo that the next run follows, and refusals of one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskedit.plugin.session import EditRecord, EditSession, Event

pytestmark = pytest.mark.slow


@pytest.fixture
def run(scene_run: Any, tmp_path: Path) -> Path:
    """A copy of a real run: one batch of edits at edit step 0, and a checkpoint after the last of four steps."""
    return shutil.copytree(scene_run.run, tmp_path / "run")


def test_a_run_is_shown(call: Callable[..., Any], run: Path, scene_run: Any) -> None:
    shown = call("session", "show", run)
    assert shown.code == 0, shown.err
    (edit,) = scene_run.result.truth.edits
    for part in ("goes on from edit step 4", "2 in 1 sweeps", edit.text.split()[0], "frame_", "last edit, of"):
        assert part in shown.out
    told = json.loads(call("session", "show", run, "--json").out)
    assert (told["edits"], told["undone"], told["is_running"], told["editor"]) == (2, 0, False, "foi")
    (held,) = told["instructions"]
    assert [each["text"] for each in held["instructions"]] == [edit.text]
    assert (held["since"], held["edits"]) == (0, 2)
    assert [view["edit"] for view in told["views"]][:3] == [0, 1, None]
    assert told["views"][2]["reason"] == "not edited yet"
    assert told["last_edit"]["trace"]["editor"] == "foi"
    before = json.loads(call("session", "show", run, "--json", "--step", 0).out)
    assert (before["edits"], before["last_edit"]) == (0, None)


def test_edits_are_taken_back_and_shown_as_such(call: Callable[..., Any], run: Path) -> None:
    done = call("session", "undo", run)
    assert done.code == 0, done.err
    assert done.out.startswith("2 edits taken back; from edit step 4 on: ")
    session = EditSession.open(run / "maskedit_session")
    assert session.working_set(4) == {}
    shown = call("session", "show", run).out
    assert "taken back" in shown
    assert "last sweep undone at edit step 4" in shown
    again = call("session", "undo", run)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "no edit is in force" in again.err


def test_an_instruction_is_gone_back_to(call: Callable[..., Any], run: Path) -> None:
    session = EditSession.open(run / "maskedit_session")
    session.add_event(Event(step=1, kind="settings", value={"instructions": [{"text": "add snow", "strength": 2.0}]}))
    first = session.records[0]
    record = EditRecord(**{**vars(first), "step": 2, "index": 9, "sweep": 5, "instructions": ("add snow",)})
    session.save_record(record)
    shown = call("session", "show", run).out
    assert "add snow" in shown
    done = call("session", "undo", run, "--to-instruction", 1)
    assert done.out.startswith("1 edits taken back")
    assert {r.index for r in EditSession.open(session.root).working_set(4).values()} == {0, 1}


def test_views_are_written(call: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    done = call("session", "export", run, "--output", tmp_path / "out", "--compared")
    assert done.code == 0, done.err
    assert done.out.startswith("2 edited views as of edit step 1: ")
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert all((tmp_path / "out" / view["image"]).is_file() for view in index["views"])
    assert all((tmp_path / "out" / view["compared"]).is_file() for view in index["views"])
    whole = call("session", "export", run, "--output", tmp_path / "data", "--dataset", "--no-masks")
    assert "and 18 that are not" in whole.out
    content = json.loads((tmp_path / "data" / "transforms.json").read_text())
    assert len(content["frames"]) == 20
    assert all((tmp_path / "data" / frame["file_path"]).is_file() for frame in content["frames"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "RUN", "--step", 99), "expected an edit step from 0 to 1 for --step, got 99"),
        (("undo", "RUN", "--to-step", 1, "--to-instruction", 1), "leave one out"),
        (("undo", "RUN", "--to-instruction", 1), "expected the number of an earlier instruction (0; 0 = the photos)"),
        (("undo", "RUN", "--to-step", 7), "expected an edit step from 0 to 3, got 7"),
        (("export", "RUN", "--output", "RUN"), "expected a new or empty folder"),
        (("show", "NOWHERE"), "no edit session can be read"),
    ],
)
def test_refusals_are_one_line(
    call: Callable[..., Any], run: Path, tmp_path: Path, arguments: tuple[Any, ...], said: str
) -> None:
    places = {"RUN": run, "NOWHERE": tmp_path / "nowhere"}
    done = call("session", *(places.get(each, each) for each in arguments))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err


def test_the_command_names_its_parts(call: Callable[..., Any]) -> None:
    shown = call("session", "--help").out
    assert all(part in shown for part in ("show", "undo", "export"))
