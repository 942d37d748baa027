"""The session on disk: what the working set is at each edit step, undo, reset, rolling back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import Captions, Instruction, SessionError
from maskedit.plugin.plan import ScenePlan
from maskedit.plugin.session import EditRecord, EditSession, Event

GREY = torch.full((4, 4), 128, dtype=torch.uint8)


def picture(value: int) -> torch.Tensor:
    return torch.full((4, 4, 3), value, dtype=torch.uint8)


def create(root: Path) -> EditSession:
    return EditSession.create(root, settings={"seed": 0, "size": (1, 2)}, start_step=5, edit_start=8, source=None)


def save(session: EditSession, index: int, *, views: int = 2, empty: bool = False) -> EditRecord:
    record = EditRecord(
        step=10 * index,
        view=index % views,
        photo=f"{index % views}.png",
        index=index,
        sweep=index // views,
        noise_level=0.5,
        seed=index,
        instructions=("make it red",),
        reason="nothing found" if empty else "",
    )
    if empty:
        return session.save_record(record)
    return session.save_edit(record, before=picture(0), after=picture(index), mask=GREY, masks=[GREY])


@pytest.fixture
def session(tmp_path: Path) -> EditSession:
    made = create(tmp_path)
    for index in range(5):
        save(made, index)
    return made


def shown(session: EditSession, step: int) -> dict[int, int]:
    return {view: record.index for view, record in session.working_set(step).items()}


def test_the_working_set_is_a_function_of_the_edit_step(session: EditSession) -> None:
    assert shown(session, 0) == {}
    assert shown(session, 10) == {0: 0}
    assert shown(session, 11) == {0: 0, 1: 1}
    assert shown(session, 50) == {0: 4, 1: 3}


def test_a_session_is_read_back_as_it_was(session: EditSession) -> None:
    session.add_event(Event(step=3, kind="pause", value=True))
    again = EditSession.open(session.root)
    assert again.records == session.records
    assert again.events == session.events
    assert (again.start_step, again.edit_start, again.generation, again.source) == (5, 8, 0, None)
    assert torch.equal(again.image_of(again.records[3]), picture(3))
    assert torch.equal(again.mask_at(again.records[3].masks[0]), GREY)


def test_an_edit_without_its_json_does_not_count(session: EditSession) -> None:
    (session.root / "edits-000" / "0000040-00000.json").unlink()
    assert [r.index for r in EditSession.open(session.root).records] == [0, 1, 2, 3]


def test_undo_takes_back_the_last_sweep_and_can_be_repeated(session: EditSession) -> None:
    assert session.undo(50) == 1
    assert shown(session, 50) == {0: 2, 1: 3}
    assert session.undo(50) == 2
    assert shown(session, 50) == {0: 0, 1: 1}
    assert session.undo(50) == 2
    assert shown(session, 50) == {}
    assert session.undo(50) == 0
    assert shown(EditSession.open(session.root), 50) == {}


def test_an_undo_is_not_yet_known_before_its_step(session: EditSession) -> None:
    session.undo(50)
    assert shown(session, 45) == {0: 4, 1: 3}


def test_edits_after_an_undo_are_shown(session: EditSession) -> None:
    session.undo(50)
    save(session, 5)
    assert shown(session, 60) == {0: 2, 1: 5}


def test_going_back_to_a_step_brings_back_its_edits_and_its_instructions(tmp_path: Path) -> None:
    settings = {"instructions": ["make it red"], "keywords": [], "strengths": []}
    session = EditSession.create(tmp_path, settings=settings, start_step=0, edit_start=0, source=None)
    for index in range(5):
        save(session, index)
    session.add_event(Event(step=15, kind="settings", value={"instructions": [{"text": "make it blue"}]}))
    assert [(h.describe(), h.edits) for h in session.history(50)] == [("make it red", 2), ("make it blue", 3)]
    assert session.undo_to(50, 15) == 3
    for each in (session, EditSession.open(session.root)):
        assert shown(each, 50) == {0: 0, 1: 1}
        assert [(h.describe(), h.undone) for h in each.history(50)][1:] == [("make it blue", 3), ("make it red", 0)]
    assert session.undo_to(50, 0) == 2
    assert shown(session, 50) == {}
    with pytest.raises(SessionError, match="an edit step before 50, got 50"):
        session.undo_to(50, 50)


def test_reset_forgets_every_edit_and_event(session: EditSession) -> None:
    session.undo(50)
    session.reset(edit_start=70)
    for each in (session, EditSession.open(session.root)):
        assert shown(each, 1000) == {}
        assert (each.generation, each.edit_start, each.events) == (1, 70, ())
    save(session, 0)
    assert shown(EditSession.open(session.root), 1000) == {0: 0}


def test_rolling_back_forgets_what_is_newer(session: EditSession) -> None:
    assert session.roll_back(30) == 2
    for each in (session, EditSession.open(session.root)):
        assert [r.index for r in each.records] == [0, 1, 2]


def test_views_without_a_find_show_their_photo_and_are_remembered(tmp_path: Path) -> None:
    session = create(tmp_path)
    save(session, 0, empty=True)
    assert shown(session, 100) == {}
    first = session.found_masks(0, ("make it red",), 100)
    assert first is not None
    assert first.image is None


def test_masks_of_the_first_edit_with_the_same_instructions_are_found(session: EditSession) -> None:
    first = session.found_masks(0, ("make it red",), 50)
    assert first is not None
    assert first.index == 0
    assert session.found_masks(0, ("make it blue",), 50) is None
    assert session.found_masks(0, ("make it red",), 0) is None
    assert session.found_masks(0, ("make it red",), 50, "ip2p") is None


def test_masks_may_lie_in_the_file_of_an_earlier_edit(session: EditSession) -> None:
    record = EditRecord(
        step=60, view=1, photo="1.png", index=6, sweep=3, noise_level=0.5, seed=6, instructions=("make it red",)
    )
    stored = session.save_edit(record, before=picture(0), after=picture(9), mask=GREY, masks=session.records[1].masks)
    assert stored.masks == session.records[1].masks


def test_every_picture_of_an_edit_is_written(session: EditSession) -> None:
    record = session.records[2]
    for name in (record.image, record.mask, record.strip, *record.masks):
        assert (session.root / str(name)).is_file()


def test_other_settings_are_named(session: EditSession) -> None:
    session.check_settings({"seed": 0, "size": (1, 2)})
    with pytest.raises(SessionError, match="seed = 0, this command has 1"):
        session.check_settings({"seed": 1})


def test_options_within_options_are_compared_where_both_know_them(tmp_path: Path) -> None:
    began = {"options": {"steps": 20, "language": {"provider": "rules"}, "dropped": 1}, "photos": [4, 16, 16]}
    session = EditSession.create(tmp_path, settings=began, start_step=0, edit_start=0, source=None)
    session.check_settings({"options": {"steps": 20, "new": True, "language": {"provider": "rules", "model": None}}})
    with pytest.raises(SessionError, match="options: language: provider = 'rules', this command has 'chat'"):
        session.check_settings({"options": {"language": {"provider": "chat"}}})
    with pytest.raises(SessionError, match=r"options: language = .*, this command has None"):
        session.check_settings({"options": {"language": None}})
    with pytest.raises(SessionError, match="photos"):
        session.check_settings({"photos": (4, 16, 8)})


def test_pictures_of_an_earlier_session_are_kept(tmp_path: Path) -> None:
    options: dict[str, Any] = {"settings": {}, "start_step": 0, "edit_start": 0, "source": None}
    made = EditSession.create(tmp_path, base={1: picture(7)}, **options)
    assert {view: int(each[0, 0, 0]) for view, each in EditSession.open(made.root).base().items()} == {1: 7}


def test_a_session_is_not_there_before_all_its_pictures_are(tmp_path: Path) -> None:
    options: dict[str, Any] = {"settings": {}, "start_step": 0, "edit_start": 0, "source": None}

    class Torn(dict[int, torch.Tensor]):
        def items(self) -> Any:
            yield 0, picture(3)
            raise KeyboardInterrupt

    root = tmp_path / "maskedit_session"
    with pytest.raises(KeyboardInterrupt):
        EditSession.create(root, base=Torn({0: picture(3), 1: picture(4)}), **options)
    assert (root / "base" / "00000.png").is_file()
    assert not EditSession.exists(tmp_path)
    # What was left behind is none of the next session's pictures.
    assert set(EditSession.create(root, base={1: picture(4)}, **options).base()) == {1}


def refuse(*given: object, **options: object) -> None:
    raise SessionError("cannot write: free some space")


@pytest.mark.parametrize(
    "act",
    [
        lambda session: session.undo(50),
        lambda session: session.undo_to(50, 10),
        lambda session: session.add_event(Event(step=50, kind="pause", value=True)),
        lambda session: session.reset(edit_start=70),
        lambda session: session.save_plan((Instruction(text="x"),), ScenePlan(instructions=(Instruction(text="x"),))),
    ],
)
def test_what_the_disk_refuses_is_not_done(session: EditSession, monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    before = json.loads(json.dumps(session._state))
    monkeypatch.setattr("maskedit.plugin.session.write_json", refuse)
    with pytest.raises(SessionError, match="free some space"):
        act(session)
    assert session._state == before
    assert len(session.records) == 5


def test_an_undo_before_a_stored_one_takes_back_what_was_there(session: EditSession) -> None:
    """Undo at 50, kill, go on at 40, undo at 45: the edits before 45 are meant, and the first undo is no more."""
    session.undo(50)
    session.roll_back(40)
    save(session, 4)
    assert session.undo(45) == 1
    for each in (session, EditSession.open(session.root)):
        assert [event.step for event in each.events] == [45]
        assert shown(each, 60) == {0: 2, 1: 3}


def test_events_of_an_older_version_are_put_in_order(session: EditSession) -> None:
    path = session.root / "session.json"
    state = json.loads(path.read_text())
    state["events"] = [{"step": step, "kind": "undo", "value": None} for step in (50, 45)]
    path.write_text(json.dumps(state))
    assert [event.step for event in EditSession.open(session.root).events] == [45, 50]


def test_a_plan_is_kept_for_its_instructions(session: EditSession) -> None:
    asked = (Instruction(text="make it red", strength=0.5),)
    plan = ScenePlan(
        instructions=(Instruction(text="make it red", strength=0.5, phrases=("ball",)),),
        captions=(Captions(source="a ball", target="a red ball"),),
    )
    assert session.plan(asked) is None
    session.save_plan(asked, plan)
    session.reset()
    again = EditSession.open(session.root)
    assert again.plan(asked) == plan
    assert again.plan((Instruction(text="make it red"),)) is None
    assert again.plan(asked, "diffedit") is None
    other = ScenePlan(instructions=asked)
    again.save_plan(asked, other, "diffedit")
    assert (again.plan(asked), again.plan(asked, "diffedit")) == (plan, other)


def test_a_session_of_a_version_without_plans_is_read(session: EditSession) -> None:
    path = session.root / "session.json"
    state = json.loads(path.read_text())
    del state["plans"]
    path.write_text(json.dumps(state))
    older = EditSession.open(session.root)
    assert older.records == session.records
    asked = (Instruction(text="make it red"),)
    assert older.plan(asked) is None
    older.save_plan(asked, ScenePlan(instructions=asked))
    assert EditSession.open(session.root).plan(asked) == ScenePlan(instructions=asked)


def test_a_plan_of_an_older_version_is_found_by_what_was_asked(session: EditSession) -> None:
    """Plans of then say nothing of regions; the run goes on by them and asks nobody."""
    path = session.root / "session.json"
    state = json.loads(path.read_text())
    asked = {"text": "make it red", "keyword": None, "strength": 1.0, "phrases": None}
    captions = [{"source": "a ball", "target": "a red ball"}]
    state["plans"] = [{"asked": [asked], "instructions": [{**asked, "phrases": ["ball"]}], "captions": captions}]
    path.write_text(json.dumps(state))
    assert EditSession.open(session.root).plan((Instruction(text="make it red"),)) == ScenePlan(
        instructions=(Instruction(text="make it red", phrases=("ball",)),),
        captions=(Captions(source="a ball", target="a red ball"),),
    )


def test_the_photos_of_the_views_are_known(session: EditSession, tmp_path: Path) -> None:
    assert session.photos == ()
    files = [str(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    made = EditSession.create(tmp_path / "other", settings={}, start_step=0, edit_start=0, source=None, photos=files)
    assert EditSession.open(made.root).photos == (tmp_path / "a.jpg", tmp_path / "b.jpg")


def test_what_is_no_session_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no edit session"):
        EditSession.open(tmp_path)
    (tmp_path / "session.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(SessionError, match="format 99"):
        EditSession.open(tmp_path)
