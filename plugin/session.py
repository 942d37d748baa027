"""The edit session: everything a run has edited, on disk beside its checkpoints.

    maskedit_session/session.json       settings, events (undo, pause, changed instruction), plans, where editing began
    maskedit_session/edits-000/         one JSON, PNG, mask and strip for each edit, by edit step and view
    maskedit_session/start.ckpt         the scene before the first edit, where it was reconstructed in the same run
    maskedit_session/base/              what an earlier session made of the photos, where its scene is edited anew

The working set is never stored as such: it is a function of the edits and events up to an edit step. So going back to
a checkpoint means to forget what is newer, and undo is an event like any other. A reset begins a new generation, a new
`edits-` folder; a checkpoint of an older generation is then not continued but left for the start.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from threading import RLock
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from ..editors import EditorName, Instruction, SessionError
from .plan import ScenePlan, instruction_to_json
from .session_history import (
    HeldSettings,
    initial_settings,
    read_history,
    read_records,
    settings_before,
    settings_to_json,
    taken_back,
)
from .session_records import EditRecord, Event
from .session_settings import differences
from .storage import draw_strip, read_image, read_mask, write_image, write_json

FORMAT = 1
FOLDER = "maskedit_session"


class EditSession:
    """The edits of one run.

    Args:
        root: the session folder.
        state: content of session.json.
    """

    def __init__(self, root: Path, state: dict[str, Any]) -> None:
        self.root = root
        self._state = state
        # Edits made beside training are stored by a thread of their own.
        self._lock = RLock()
        self._records = {(r.step, r.view): r for r in read_records(root / f"edits-{self.generation:03d}")}

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        settings: Mapping[str, Any],
        start_step: int,
        edit_start: int,
        source: str | None,
        photos: Sequence[str] = (),
        base: Mapping[int, UInt8[Tensor, "height width 3"]] | None = None,
    ) -> "EditSession":
        """Begin a session.

        Args:
            root: the session folder.
            settings: what must be the same when the run is continued.
            start_step: training step at which the run begins.
            edit_start: training step of edit step 0.
            source: checkpoint the run starts from; None = from scratch.
            photos: file of each view's photo.
            base: pictures that an earlier session left, by view; here they stand for the photos.
        """
        session = cls(
            root,
            {
                "format": FORMAT,
                "generation": 0,
                "start_step": start_step,
                "edit_start": edit_start,
                "source": source,
                "photos": list(photos),
                "settings": json.loads(json.dumps(settings, default=str)),
                "events": [],
                "plans": [],
            },
        )
        # A session is there once session.json is: whatever lies here before that was left by a kill.
        shutil.rmtree(root / "base", ignore_errors=True)
        for view, picture in (base or {}).items():
            write_image(root / "base" / f"{view:05d}.png", picture)
        session._change()
        return session

    @classmethod
    def open(cls, root: Path) -> "EditSession":
        """Read a session.

        Raises:
            SessionError: if there is none, or it was written by a newer version.
        """
        path = root / "session.json"
        try:
            state = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise SessionError(
                f"no edit session can be read at {path} ({error}): give the folder of a maskedit run"
            ) from error
        if state.get("format") != FORMAT:
            raise SessionError(
                f"{path} has format {state.get('format')}, this version reads {FORMAT}: use the version that wrote it"
            )
        return cls(root, state)

    @staticmethod
    def exists(run: Path) -> bool:
        """Whether a run folder holds a session."""
        return (run / FOLDER / "session.json").is_file()

    @property
    def generation(self) -> int:
        """How many times the session was reset."""
        return int(self._state["generation"])

    @property
    def start_step(self) -> int:
        """Training step at which the run began."""
        return int(self._state["start_step"])

    @property
    def edit_start(self) -> int:
        """Training step of edit step 0."""
        return int(self._state["edit_start"])

    @property
    def source(self) -> Path | None:
        """The checkpoint the run started from."""
        return None if self._state["source"] is None else Path(self._state["source"])

    @property
    def photos(self) -> tuple[Path, ...]:
        """File of each view's photo; a session of an older version does not know them."""
        return tuple(Path(each) for each in self._state.get("photos", ()))

    @property
    def start_checkpoint(self) -> Path:
        """Where a scene that was reconstructed in the same run is kept for a reset."""
        return self.root / "start.ckpt"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings the session began with."""
        return dict(self._state["settings"])

    @property
    def events(self) -> tuple[Event, ...]:
        """What the user did, by edit step; at the same one, in the order in which it was done."""
        return tuple(sorted((Event(**event) for event in self._state["events"]), key=lambda event: event.step))

    @property
    def records(self) -> tuple[EditRecord, ...]:
        """Every edit of this generation, in the order in which they were made; undone ones included."""
        with self._lock:
            return tuple(sorted(self._records.values(), key=lambda r: r.index))

    def clock(self, step: int) -> int:
        """The edit step by which a session counts what happens.

        A run that edits beside training keeps every edit, although a kill takes its scene back to a checkpoint. Its
        clock never goes back, so that what the user did stays before the edits that were made after it.

        Args:
            step: the edit step that comes next.
        """
        if not self.settings.get("edit beside"):
            return step
        return max([step, *(record.at + 1 for record in self.records), *(event.step for event in self.events)])

    def plan(self, instructions: Sequence[Instruction], editor: EditorName | None = None) -> ScenePlan | None:
        """What an editor decided about these instructions before, if anything; None = that of the beginning."""
        asked = [instruction_to_json(each) for each in instructions]
        plans = self._state.get("plans", [])
        found = [each for each in plans if each["asked"] == asked and each.get("editor") == editor]
        return ScenePlan.from_json(found[0]) if found else None

    def save_plan(self, instructions: Sequence[Instruction], plan: ScenePlan, editor: EditorName | None = None) -> None:
        """Keep what was decided about some instructions; a session of an older version has none."""
        stored = {"asked": [instruction_to_json(each) for each in instructions], **plan.to_json()}
        # Only editors chosen in the viewer are named, so that plans of older versions are found.
        stored |= {} if editor is None else {"editor": editor}
        with self._lock:
            self._change(plans=[*self._state.get("plans", []), stored])

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse to continue a session with other settings than it began with.

        Raises:
            SessionError: naming the first setting that differs.
        """
        given = json.loads(json.dumps(settings, default=str))
        for name, was, now in differences(self.settings, given):
            raise SessionError(
                f"the session at {self.root} began with {name} = {was!r}, this command has {now!r}: pass the "
                "former to continue it, or --pipeline.resume False to begin a new edit from its scene"
            )

    def base(self) -> dict[int, UInt8[Tensor, "height width 3"]]:
        """The pictures that stand for photos, by view."""
        return {int(path.stem): read_image(path) for path in sorted((self.root / "base").glob("*.png"))}

    def save_edit(
        self,
        record: EditRecord,
        *,
        before: UInt8[Tensor, "height width 3"],
        after: UInt8[Tensor, "height width 3"],
        mask: UInt8[Tensor, "height width"],
        masks: Iterable[UInt8[Tensor, "height width"] | str],
    ) -> EditRecord:
        """Store an edit; it counts only once its JSON is there, which comes last.

        Args:
            record: what was done.
            before: the original photo.
            after: the edited one, exactly as it will be trained on.
            mask: where the edit acted.
            masks: for each instruction its mask, or the file of an earlier edit that holds it.

        Raises:
            SessionError: if the disk refuses.
        """
        name = f"{record.step:07d}-{record.view:05d}"
        folder = f"edits-{self.generation:03d}"
        mask_files: list[str] = []
        for number, each in enumerate(masks):
            if isinstance(each, str):
                mask_files.append(each)
            else:
                mask_files.append(f"{folder}/{name}-mask{number}.png")
                write_image(self.root / mask_files[-1], each)
        stored = EditRecord(
            **{
                **{f.name: getattr(record, f.name) for f in fields(record)},
                "image": f"{folder}/{name}.png",
                "mask": f"{folder}/{name}-used.png",
                "strip": f"{folder}/{name}-strip.png",
                "masks": tuple(mask_files),
            }
        )
        write_image(self.root / f"{folder}/{name}.png", after)
        write_image(self.root / f"{folder}/{name}-used.png", mask)
        write_image(self.root / f"{folder}/{name}-strip.png", draw_strip(before, mask, after))
        return self.save_record(stored)

    def save_record(self, record: EditRecord) -> EditRecord:
        """Store the JSON of an edit."""
        write_json(self._json_path(record), asdict(record))
        with self._lock:
            self._records[record.step, record.view] = record
        return record

    @property
    def skipped(self) -> frozenset[int]:
        """Running numbers of turns that came due during a pause, where no event of their edit step tells it."""
        return frozenset(self._state.get("skipped", ()))

    def skip(self, indices: Iterable[int]) -> None:
        """Keep that some turns are not to be made."""
        with self._lock:
            self._change(skipped=sorted(self.skipped.union(indices)))

    def hidden(self, step: int) -> set[int]:
        """Running numbers of the edits that undos up to an edit step took back."""
        return taken_back(self.records, self.events, step)

    def working_set(self, step: int) -> dict[int, EditRecord]:
        """The edit that each view shows before the edits of an edit step; views without one show their photo."""
        gone = self.hidden(step)
        shown: dict[int, EditRecord] = {}
        for record in self.records:
            if record.at < step and record.image is not None and record.index not in gone:
                shown[record.view] = record
        return shown

    def found_masks(
        self, view: int, instructions: tuple[str, ...], step: int, editor: EditorName | None = None
    ) -> EditRecord | None:
        """The first edit of a view with the same instructions and editor, whose masks are used again."""
        asked = (view, instructions, editor)
        for record in self.records:
            if (record.view, record.instructions, record.editor) == asked and record.step < step:
                return record
        return None

    def image_of(self, record: EditRecord) -> UInt8[Tensor, "height width 3"]:
        """The edited photo."""
        return read_image(self.root / str(record.image))

    def mask_at(self, name: str) -> UInt8[Tensor, "height width"]:
        """A stored mask."""
        return read_mask(self.root / name)

    def add_event(self, *events: Event) -> None:
        """Store something the user did; all of it at one edit step.

        A killed run goes on before some of what was done, and repeats it. What is done anew leads elsewhere, so what
        was to come after it is dropped: an undo would take back edits that its user has never seen.

        Raises:
            SessionError: if the disk refuses; then it was not done.
        """
        with self._lock:
            known = [event for event in self.events if event.step <= events[0].step]
            self._change(events=[asdict(event) for event in (*known, *events)])

    def undo(self, step: int) -> int:
        """Take back the last sweep of edits: each of its views shows again what it showed before.

        Args:
            step: the edit step that comes next.

        Returns:
            How many edits were taken back.
        """
        before = len(self.hidden(step))
        self.add_event(Event(step=step, kind="undo"))
        return len(self.hidden(step)) - before

    def undo_to(self, step: int, to: int) -> int:
        """Go back to what the session was just before an earlier edit step: to its working set and its instructions.

        Args:
            step: the edit step that comes next.
            to: the edit step to go back to; its own edits are taken back as well.

        Returns:
            How many edits were taken back.

        Raises:
            SessionError: if that edit step has not come yet.
        """
        if not 0 <= to < max(step, 1):
            raise SessionError(f"expected an edit step before {max(step, 1)}, got {to}: give one of the steps so far")
        before = len(self.hidden(step))
        settings = settings_before(initial_settings(self.settings), self.events, to)
        self.add_event(
            Event(step=step, kind="undo", value={"to": to}),
            Event(step=step, kind="settings", value=settings_to_json(settings)),
        )
        return len(self.hidden(step)) - before

    def history(self, step: int) -> tuple[HeldSettings, ...]:
        """What the user wanted one after another, oldest first.

        Args:
            step: the edit step that comes next.
        """
        return read_history(initial_settings(self.settings), self.events, self.records, step)

    def reset(self, *, edit_start: int | None = None) -> None:
        """Forget every edit: all photos are the originals again and the scene is to be taken from the start.

        The old edits stay in their folder; nothing reads them any more.

        Args:
            edit_start: training step at which editing begins anew; None = where the session first began.
        """
        with self._lock:
            start = self.edit_start if edit_start is None else edit_start
            self._change(generation=self.generation + 1, events=[], skipped=[], edit_start=start)
            self._records = {}

    def roll_back(self, step: int) -> int:
        """Forget the edits from an edit step on, because the scene they came from was lost.

        Returns:
            How many were forgotten.
        """
        newer = [r for r in self.records if r.step >= step]
        for record in newer:
            self._json_path(record).unlink(missing_ok=True)
            del self._records[record.step, record.view]
        return len(newer)

    def _json_path(self, record: EditRecord) -> Path:
        return self.root / f"edits-{self.generation:03d}" / f"{record.step:07d}-{record.view:05d}.json"

    def _change(self, **changes: object) -> None:
        # What the disk refuses must not be in force either.
        changed = {**self._state, **changes}
        write_json(self.root / "session.json", changed)
        self._state = changed
