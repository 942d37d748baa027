"""Between two runs a session tells where the next goes on, and edits can be taken back."""

from pathlib import Path

import pytest
import torch

from maskedit.editors import InputError, SessionError
from maskedit.plugin.session import EditRecord, EditSession, Event
from maskedit.plugin.session_lock import is_held_elsewhere
from maskedit.plugin.session_offline import check_is_idle, open_run, resume_step, standing_step, take_back

GREY = torch.full((4, 4), 128, dtype=torch.uint8)


@pytest.fixture
def session(tmp_path: Path) -> EditSession:
    """Six edits of three views at edit steps 0 to 5, the later ones by another instruction; a checkpoint after 4."""
    settings = {"instructions": ["make it red"], "keywords": [], "strengths": []}
    root = tmp_path / "run" / "maskedit_session"
    made = EditSession.create(root, settings=settings, start_step=5, edit_start=8, source=None)
    for step in range(6):
        record = EditRecord(
            step=step,
            view=step % 3,
            photo=f"{step % 3}.png",
            index=step,
            sweep=step // 3,
            noise_level=0.5,
            seed=step,
            instructions=("make it red",) if step < 2 else ("make it blue",),
        )
        picture = torch.full((4, 4, 3), step, dtype=torch.uint8)
        made.save_edit(record, before=picture, after=picture, mask=GREY, masks=[GREY])
    made.add_event(Event(step=2, kind="settings", value={"instructions": [{"text": "make it blue"}]}))
    (tmp_path / "run" / "nerfstudio_models").mkdir()
    (tmp_path / "run" / "nerfstudio_models" / "step-000000012.ckpt").touch()
    return made


def shown(session: EditSession, step: int) -> dict[int, int]:
    return {view: record.index for view, record in EditSession.open(session.root).working_set(step).items()}


def test_a_session_is_found_from_its_run_and_from_itself(session: EditSession) -> None:
    assert open_run(session.root.parent).root == session.root
    assert open_run(session.root).root == session.root
    with pytest.raises(SessionError, match="no edit session"):
        open_run(session.root.parent.parent)


def test_the_next_run_goes_on_after_the_newest_checkpoint(session: EditSession) -> None:
    assert resume_step(session) == 5
    assert standing_step(session) == 6
    (session.root.parent / "nerfstudio_models" / "step-000000012.ckpt").unlink()
    assert resume_step(session) == 0


def test_a_reset_that_is_newer_than_the_checkpoint_begins_at_0(session: EditSession) -> None:
    session.reset(edit_start=20)
    assert (resume_step(session), standing_step(session)) == (0, 0)


def test_the_last_sweep_is_taken_back(session: EditSession) -> None:
    done = take_back(session)
    # The edit of step 5 is newer than the checkpoint, and will be made again anyway.
    assert (done.step, done.edits) == (5, 2)
    assert shown(session, 5) == {0: 0, 1: 1, 2: 2}
    assert not is_held_elsewhere(session.root)


def test_an_instruction_is_gone_back_to(session: EditSession) -> None:
    done = take_back(session, to_instruction=1)
    assert (done.edits, done.now.describe()) == (3, "make it red")
    assert shown(session, 5) == {0: 0, 1: 1}
    assert take_back(session, to_instruction=0).edits == 2
    assert shown(session, 5) == {}
    with pytest.raises(InputError, match="no edit is in force"):
        take_back(session)


def test_an_edit_step_is_gone_back_to(session: EditSession) -> None:
    assert take_back(session, to_step=1).edits == 4
    assert shown(session, 5) == {0: 0}


def test_numbers_that_are_none_are_refused(session: EditSession) -> None:
    with pytest.raises(InputError, match=r"earlier instruction \(0, 1; 0 = the photos\), got 2"):
        take_back(session, to_instruction=2)
    with pytest.raises(InputError, match="an edit step from 0 to 4, got 5"):
        take_back(session, to_step=5)
    assert len(session.events) == 1


def test_a_session_nobody_runs_is_idle(session: EditSession) -> None:
    assert check_is_idle(session)
