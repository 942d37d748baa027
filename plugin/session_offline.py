"""A session between two runs: where the next run goes on, and taking edits back before it does."""

from dataclasses import dataclass
from pathlib import Path

from ..editors import InputError
from .checkpoint import MODEL_FOLDER
from .session import FOLDER, EditSession
from .session_history import HeldSettings
from .session_lock import hold_session, is_held_elsewhere, release_session


def open_run(run: Path) -> EditSession:
    """The session of a run.

    Args:
        run: folder of a run, or its session folder.

    Raises:
        SessionError: if there is none, or a newer version wrote it.
    """
    return EditSession.open(run if (run / "session.json").is_file() else run / FOLDER)


def resume_step(session: EditSession) -> int:
    """The edit step with which the next run goes on: that after the newest checkpoint."""
    found = sorted((session.root.parent / MODEL_FOLDER).glob("step-*.ckpt"))
    step = int(found[-1].stem.removeprefix("step-")) + 1 - session.edit_start if found else 0
    return session.clock(max(0, step))


def standing_step(session: EditSession) -> int:
    """The edit step after everything that the session knows of."""
    return max([0, *(record.at + 1 for record in session.records), *(event.step for event in session.events)])


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """What an undo did."""

    step: int
    """Edit step at which the next run comes upon it."""
    edits: int
    """How many edits were taken back."""
    now: HeldSettings
    """What holds from then on."""


def take_back(session: EditSession, *, to_step: int | None = None, to_instruction: int | None = None) -> TakenBack:
    """Take edits back while no run is going on; the next run goes on without them.

    Args:
        session: of the run.
        to_step: go back to just before this edit step.
        to_instruction: go back to the end of the instruction of this number; 0 = to the photos. Neither = the last
            sweep is taken back.

    Raises:
        SessionError: if a run is going on.
        InputError: if there is nothing to take back, or the number is none of an earlier instruction.
    """
    hold_session(session.root)
    try:
        # Read again: a run may have ended since, and what it did last must not be overwritten.
        session = EditSession.open(session.root)
        step = resume_step(session)
        held = session.history(step)
        if to_instruction is not None:
            to_step = _end_of(held, to_instruction)
        if to_step is not None and not 0 <= to_step < max(step, 1):
            raise InputError(
                f"expected an edit step from 0 to {max(step, 1) - 1}, got {to_step}: see maskedit session show"
            )
        gone = session.hidden(step)
        if not [r for r in session.records if r.at < step and r.image is not None and r.index not in gone]:
            raise InputError("nothing to take back: no edit is in force")
        count = session.undo(step) if to_step is None else session.undo_to(step, to_step)
        return TakenBack(step=step, edits=count, now=session.history(step)[-1])
    finally:
        release_session(session.root)


def check_is_idle(session: EditSession) -> bool:
    """Whether no other process is running on a session."""
    return not is_held_elsewhere(session.root)


def _end_of(held: tuple[HeldSettings, ...], number: int) -> int:
    earlier = {each.number: each.until for each in held[:-1]} | {0: 0}
    if number not in earlier:
        numbers = ", ".join(str(each) for each in sorted(earlier))
        raise InputError(
            f"expected the number of an earlier instruction ({numbers}; 0 = the photos), got {number}: see maskedit "
            "session show"
        )
    return earlier[number]
