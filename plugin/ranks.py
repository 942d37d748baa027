"""Several devices, one process each: the edits of a step are divided over them, and all of them show all edits.

nerfstudio trains a scene on `--machine.num-devices` devices by giving each its own rays and averaging the gradients.
Here the views that are due together are divided over the same devices: each rank renders, edits and hands out its share
as uint8, the first rank alone writes the session, and every rank goes on with the same photos, events and plans. A
session made this way is byte for byte that of one device, because no edit depends on its neighbours in a batch.

What the user does in the viewer reaches the first rank. The others learn of it at steps that matter: those in which
edits are due, and every few steps in between.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from ..editors import InputError, MaskeditError
from .carrier import DraftEdit, EditWork, MadeEdit
from .edits import SceneEdits
from .session import EditSession
from .session_records import EditRecord
from .start import Start, find_start

MEET_EVERY = 10
"""Steps after which the ranks meet at the latest, where no edits bring them together."""
TIMEOUT = timedelta(hours=2)
"""How long ranks wait for each other; the first edit may have to fetch and load weights."""

T = TypeVar("T")


class Ranks:
    """The processes of a run; with one device there is nobody to talk to.

    Args:
        rank: this process.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        # Edits are exchanged through main memory, whatever moves the gradients.
        self._group: Any = dist.new_group(backend="gloo", timeout=TIMEOUT) if size > 1 else None

    @classmethod
    def join(cls, world_size: int) -> "Ranks":
        """The ranks that nerfstudio has started."""
        return cls(dist.get_rank(), world_size) if world_size > 1 else cls()

    @property
    def is_first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """What each rank has to say, in the order of ranks, for all of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def broadcast(self, value: T) -> T:
        """What the first rank has to say, for all of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    def first(self, act: Callable[[], T]) -> T:
        """Let the first rank do something and tell the others what came of it.

        Raises:
            MaskeditError: on every rank, if it fails.
        """
        if self.size == 1:
            return act()
        result: T | None = None
        error: Exception | None = None
        if self.is_first:
            try:
                result = act()
            except Exception as caught:
                error = caught
        result, message = self.broadcast((result, None if error is None else describe_error(error)))
        if error is not None:
            raise error
        if message is not None:
            raise InputError(message)
        return result  # type: ignore[return-value]

    def share(self, turns: Sequence[T]) -> tuple[T, ...]:
        """What of some work is this rank's."""
        return tuple(turns[self.rank :: self.size])

    def share_session(self, open_or_create: Callable[[], EditSession | None]) -> EditSession | None:
        """The session of the first rank; on the others, one that reads what the first one writes.

        Args:
            open_or_create: called by the first rank alone.
        """
        if self.size == 1:
            return open_or_create()
        session: EditSession | None = None

        def begin() -> Path | None:
            nonlocal session
            session = open_or_create()
            return None if session is None else session.root

        root = self.first(begin)
        if not self.is_first and root is not None:
            session = FollowingSession.open(root)
        # The first rank may change the folder only after all have read it.
        self.gather(None)
        return session


def describe_error(error: Exception) -> str:
    """An error in the words in which another rank raises it."""
    return str(error) if isinstance(error, MaskeditError) else f"{type(error).__name__}: {error}"


class FollowingSession(EditSession):
    """A session that another rank writes: the same edits and events, and nothing that touches the disk."""

    def _change(self, **changes: object) -> None:
        self._state = {**self._state, **changes}

    def save_record(self, record: EditRecord) -> EditRecord:
        """Take over an edit that the first rank has stored."""
        with self._lock:
            self._records[record.step, record.view] = record
        return record

    def roll_back(self, step: int) -> int:
        """Forget the edits from an edit step on; their files are the first rank's business."""
        newer = [record for record in self.records if record.step >= step]
        with self._lock:
            for record in newer:
                del self._records[record.step, record.view]
        return len(newer)

    def follow(self) -> None:
        """Take over what the first rank has written about the run."""
        state = json.loads((self.root / "session.json").read_text())
        with self._lock:
            if state["generation"] != self.generation:
                self._records = {}
            self._state = state


class RankEdits:
    """Divides the edits of each step over the ranks.

    Args:
        edits: of this rank, on its own device.
        ranks: that share them.
    """

    def __init__(self, edits: SceneEdits, ranks: Ranks) -> None:
        self.edits, self.ranks = edits, ranks

    def run_due(self, step: int) -> tuple[MadeEdit, ...]:
        """Make this rank's share of the edits due at an edit step, and train on those of all ranks.

        Raises:
            MaskeditError: on every rank, if the edit of one of them fails or can't be stored.
        """
        work = self.edits.due(step)
        if work is None:
            return ()
        self._plan(work)
        made = self._store(self._exchange(self._draft(replace(work, turns=self.ranks.share(work.turns)))))
        self.edits.land(made)
        return made

    def recall(self, *, forget: bool) -> None:
        """Nothing is under way between two steps."""

    def finish(self) -> None:
        """Nothing is under way after the last step."""

    def close(self) -> None:
        """There is nothing to let go of."""

    def _plan(self, work: EditWork) -> None:
        """Let the first rank do what serves all views, such as to ask language."""
        session, settings = self.edits.session, work.settings
        is_planned = session.plan(settings.instructions, settings.editor) is not None
        self.ranks.first(lambda: self.edits.plan_ahead(work))
        if isinstance(session, FollowingSession) and not is_planned:
            session.follow()

    def _draft(self, work: EditWork) -> tuple[DraftEdit, ...] | Exception:
        # The others wait for this rank, so it must not leave with its error alone.
        try:
            return self.edits.draft(work) if work.turns else ()
        except Exception as error:
            return error

    def _exchange(self, own: tuple[DraftEdit, ...] | Exception) -> list[DraftEdit]:
        failed = describe_error(own) if isinstance(own, Exception) else None
        shares = self.ranks.gather((() if isinstance(own, Exception) else own, failed))
        if isinstance(own, Exception):
            raise own
        for _, message in shares:
            if message is not None:
                raise InputError(message)
        return sorted((draft for share, _ in shares for draft in share), key=lambda draft: draft.record.index)

    def _store(self, drafts: Sequence[DraftEdit]) -> tuple[MadeEdit, ...]:
        records = self.ranks.first(lambda: [made.record for made in self.edits.store(drafts)])
        if not self.ranks.is_first:
            for record in records:
                self.edits.session.save_record(record)
        return tuple(MadeEdit(record=record, image=draft.image) for record, draft in zip(records, drafts, strict=True))


def find_start_together(ranks: Ranks, config: Any) -> Start:
    """Where a run begins, found by the first rank.

    Args:
        ranks: of the run.
        config: the run's config.
    """
    found: list[Start] = []

    def find() -> EditSession | None:
        found.append(find_start(config))
        return found[0].session

    session = ranks.share_session(find)
    return Start(checkpoint=ranks.broadcast(found[0].checkpoint if found else None), session=session)


def meets(ranks: Ranks, edits: SceneEdits, step: int) -> bool:
    """Whether the first rank tells the others at an edit step what the user did."""
    return ranks.size == 1 or step % MEET_EVERY == 0 or bool(edits.schedule.turns(step))


def follow_first(ranks: Ranks, edits: SceneEdits, step: int, restore_scene: Callable[[], None]) -> None:
    """Bring this rank to what the user did on the first one.

    Args:
        ranks: of the run.
        edits: of this rank.
        step: the edit step that comes next.
        restore_scene: brings the scene of this rank back to what it was before the first edit.
    """
    session = edits.session
    # As JSON, because the first rank has what was done and the others what was read.
    known = (session.generation, json.dumps([asdict(event) for event in session.events]))
    told = ranks.broadcast(known)
    if not isinstance(session, FollowingSession) or told == known:
        return
    session.follow()
    if told[0] != known[0]:
        restore_scene()
        step = 0
    edits.show(step)


def check_ranks(config: Any) -> None:
    """Refuse several devices where they can't work together.

    Args:
        config: the run's config.

    Raises:
        InputError: naming the flag to change.
    """
    machine, pipeline = config.machine, config.pipeline
    devices = machine.num_devices * machine.num_machines
    if devices == 1:
        return
    one = "pass --machine.num-devices 1"
    if machine.num_machines > 1:
        raise InputError(f"expected the devices of one machine, got {machine.num_machines} machines: {one}")
    if machine.device_type == "cpu":
        raise InputError(f"expected CUDA devices to train on {devices} of them, got cpu: {one}")
    if pipeline.scene_kind != "nerfacto":
        raise InputError(f"expected one device to train splats on, got {devices}: {one}")
    if pipeline.edit_beside:
        raise InputError(
            f"edits are divided over {devices} devices or made beside training, not both: {one}, or "
            "--pipeline.edit-beside False"
        )
    if pipeline.consistency.share_views != "none":
        raise InputError(
            f"edits are divided over {devices} devices or share attention, not both: {one}, or "
            "--pipeline.consistency.share-views none"
        )
    if pipeline.dry_run:
        raise InputError(f"expected one device for a dry run, got {devices}: {one}")
