"""Edits beside training: a thread renders a copy of the scene, edits and stores, while the scene goes on training.

What a training step waits for is one copy of the weights when an edit begins, and the exchange of one photo when it is
done. Everything else happens in the thread, on the editor's device and, on a GPU, on a stream of its own. Edits are
made one batch after the other in the order of the schedule. A turn that comes due while another is under way waits;
none is skipped.

An edit under way keeps the settings it began with; turns that wait are made with those that hold when they begin. Pause
lets what is under way finish and begins nothing more. Undo takes the edit under way back and lets its turn come again;
reset forgets it. What was stored before is in the session for good: a run that is resumed keeps it and shows it, though
the scene goes on from an older checkpoint. So the edit steps of such a session are counted by `EditSession.clock`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Protocol, runtime_checkable

import torch

from ..editors import own_stream
from .carrier import EditWork, MadeEdit
from .edits import SceneEdits, format_duration
from .scene import ViewRender
from .session_records import EditRecord
from .slot import Settings
from .update import EditTurn

CLOSE_SECONDS = 60.0
"""How long a run that is broken off waits for the edit under way."""


@runtime_checkable
class CopiedScene(Protocol):
    """A copy of the scene that trains."""

    def copy(self) -> float:
        """Bring it up to date; returns the seconds for which training waited."""
        ...

    def render(self, view: int) -> ViewRender:
        """What a camera of the working set sees of the copy."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """Turns that have come due together."""

    turns: tuple[EditTurn, ...]
    since: int
    """Edit step at which they came due in this run; later than their own after a kill."""

    def begin(self, settings: Settings, clock: int) -> EditWork:
        """The work that they are now, whenever they were due: regions and masks are those of now as well."""
        return EditWork(turns=tuple(replace(turn, step=clock) for turn in self.turns), settings=settings)

    def stamp(self, record: EditRecord) -> EditRecord:
        """A record of that work, as the session keeps it: due then, made now."""
        due = next(turn.step for turn in self.turns if turn.index == record.index)
        return replace(record, step=due, made=record.step)


@dataclass(kw_only=True)
class _Job:
    waiting: _Waiting
    work: EditWork
    is_recalled: bool = False


class EditWorker:
    """Makes the edits of a run beside training.

    Args:
        edits: of the run.
        scene: the copy that is edited.
        device: the editor's.
        step: the edit step with which the run begins or goes on.
        report: receives a line at the end.
    """

    def __init__(
        self,
        edits: SceneEdits,
        scene: CopiedScene,
        *,
        device: torch.device | str,
        step: int = 0,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.edits, self.scene = edits, scene
        self._device, self._report = device, report
        self._queue: deque[_Waiting] = deque(_Waiting(turns=turns, since=step) for turns in missed(edits, step))
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        """Held while an edit is stored or recalled, so that it is either wholly there or never was."""
        self._job: _Job | None = None
        self._step = step
        self._stored: list[tuple[MadeEdit, int]] = []
        self._error: BaseException | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None
        self.began: float | None = None
        self.waited = 0.0
        """Seconds for which training waited, for copies and for landing."""
        self.lags: list[int] = []
        """For each edit that landed the edit steps since it came due."""

    @property
    def waiting(self) -> int:
        """How many turns have come due and are not under way."""
        return sum(len(each.turns) for each in self._queue)

    def run_due(self, step: int) -> None:
        """Train on what is done, note what comes due, and begin the next edit if none is under way.

        Raises:
            MaskeditError: if the last edit failed; the run ends with its line.
        """
        self.began = self.began or time.monotonic()
        self._step = step
        self._raise_error()
        self._land(step)
        due = self.edits.due(step)
        if due is None:
            self._note_skipped(step)
        elif turns := self._without_made(due.turns):
            self._queue.append(_Waiting(turns=turns, since=step))
        if self._queue and self._idle.is_set():
            self._begin(step)

    def _without_made(self, turns: tuple[EditTurn, ...]) -> tuple[EditTurn, ...]:
        # A run that goes on from an older checkpoint comes upon turns again that are made, or wait already.
        known = {record.index for record in self.edits.session.records}
        known |= {turn.index for each in self._queue for turn in each.turns}
        known |= {turn.index for turn in self._job.work.turns} if self._job is not None else set()
        return tuple(turn for turn in turns if turn.index not in known)

    def _note_skipped(self, step: int) -> None:
        # After a kill the session's clock is ahead of the run, and a pause by that clock is none of this edit step.
        if not self.edits.settings_then(step).is_paused:
            turns = self._without_made(self.edits.schedule.turns(step))
            if turns:
                self.edits.session.skip(turn.index for turn in turns)

    def _begin(self, step: int) -> None:
        settings = self.edits.settings_at(step)
        if settings.is_paused:
            return
        self._raise_error()
        self.waited += self.scene.copy()
        next_up, clock = self._queue.popleft(), self.edits.session.clock(step)
        self._job = _Job(waiting=next_up, work=next_up.begin(settings, clock))
        self._idle.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="maskedit-edits")
            self._thread.start()
        self._inbox.put(self._job)

    def _run(self) -> None:
        """The thread: one job after the other, all on one stream, because each stream keeps memory of its own."""
        with own_stream(self._device):
            while (job := self._inbox.get()) is not None:
                try:
                    self._make(job)
                except BaseException as error:
                    self._error = None if job.is_recalled else error
                self._idle.set()

    def _make(self, job: _Job) -> None:
        drafts = self.edits.draft(job.work, self.scene.render)
        drafts = [replace(each, record=job.waiting.stamp(each.record)) for each in drafts]
        with self._lock:
            if not job.is_recalled:
                self._stored += [(each, job.waiting.since) for each in self.edits.store(drafts)]
                self._job = None

    def _land(self, step: int) -> None:
        if not self._stored:
            return
        started = time.monotonic()
        with self._lock:
            stored, self._stored = self._stored, []
        hidden = self.edits.session.hidden(self.edits.session.clock(step))
        self.edits.land([made for made, _ in stored if made.record.index not in hidden])
        self.lags += [step - since for _, since in stored]
        self.waited += time.monotonic() - started

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def recall(self, *, forget: bool) -> None:
        """Take back the edit under way, and let its turn come again or, with all that wait, forget it."""
        with self._lock:
            # What is stored is the session's: it knows what is to be shown of it.
            self._stored = []
            job, self._job = self._job, None
            if job is not None:
                job.is_recalled = True
            self._error = None
        if forget:
            self._queue.clear()
        elif job is not None:
            self._queue.appendleft(job.waiting)

    def finish(self) -> None:
        """Wait for the edit under way and train on it; what still waits is reported.

        Raises:
            MaskeditError: if that edit failed.
        """
        self._idle.wait()
        self._raise_error()
        self._land(self._step)
        self._report(self.describe())

    def describe(self) -> str:
        """What came of editing beside training, in a line."""
        spent = time.monotonic() - (self.began or time.monotonic())
        share, rate = (self.waited / spent, 60 * len(self.lags) / spent) if spent > 0 else (0.0, 0.0)
        lag = sum(self.lags) / max(1, len(self.lags))
        left = ""
        if self.waiting:
            left = (
                f"; {self.waiting} turns were still waiting and are dropped: raise --max-num-iterations or "
                "--pipeline.edit-rate to have them made"
            )
        return (
            f"edits beside training: {len(self.lags)} in {format_duration(spent)}, {rate:.1f} a minute, each "
            f"{lag:.1f} steps after it was due; training waited {share:.1%} of the time{left}"
        )

    def close(self) -> None:
        """End the thread; an edit under way is still stored if it does not take too long, and after that never."""
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                # The session is let go of next, and another run may write it.
                self.recall(forget=True)
            self._thread = None


def missed(edits: SceneEdits, step: int) -> list[tuple[EditTurn, ...]]:
    """Turns before an edit step that no edit was made of, because the run was killed before their turn came.

    Args:
        edits: of the run.
        step: the edit step with which it goes on.
    """
    made = {record.index for record in edits.session.records} | edits.session.skipped
    found: list[tuple[EditTurn, ...]] = []
    for before in range(step):
        turns = tuple(turn for turn in edits.schedule.turns(before) if turn.index not in made)
        if turns and not edits.settings_then(before).is_paused:
            found.append(turns)
    return found
