"""Carrying out edits: render a view, ask the editor, store the result, train on it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..editors import (
    Editor,
    EditResult,
    Image,
    InputError,
    Instruction,
    NothingFoundError,
)
from .datamanager import MaskeditDataManager
from .editor import SceneEditorConfig
from .plan import check_plan, make_plan, plan_early
from .session import EditRecord, EditSession, Event
from .slot import EditView, Settings, as_image, batch_request, find_masks, mask_request
from .storage import to_bytes
from .update import EditSchedule, EditTurn

if TYPE_CHECKING:
    from ..editors import Backbone


@dataclass(frozen=True, kw_only=True)
class EditRules:
    """What holds for every edit of a run."""

    reuse_masks: bool = True
    """The masks of a view's first edit serve all its edits."""
    skip_empty: bool = True
    """A view in which nothing is found keeps its photo; otherwise the run stops."""
    planned: int = 0
    """Edits of the whole run, for the progress line."""


class SceneEdits:
    """The edits of a run.

    Args:
        data: originals and working set.
        session: where edits are stored.
        schedule: which view when.
        editor_config: the editor, loaded at the first edit.
        settings: instructions and guidance at the start; events of the session change them.
        rules: see `EditRules`.
        render: the current scene from a view, one image in [0, 1].
        report: receives one line for each edit.
    """

    def __init__(
        self,
        *,
        data: MaskeditDataManager,
        session: EditSession,
        schedule: EditSchedule,
        editor_config: SceneEditorConfig,
        settings: Settings,
        rules: EditRules,
        render: Callable[[int], Image],
        report: Callable[[str], None],
    ) -> None:
        self.data, self.session, self.schedule, self.rules = data, session, schedule, rules
        self._editor_config, self._initial, self._render, self._report = editor_config, settings, render, report
        self._editor: Editor | None = None
        self._backbone: Backbone | None = None
        self._editor_scales: tuple[float | None, float | None] = (None, None)
        self._fixed_editor = False
        self._began: float | None = None
        self._made = 0

    @property
    def has_editor(self) -> bool:
        """Whether an editor has been loaded."""
        return self._editor is not None

    def use_editor(self, editor: Editor) -> None:
        """Use an editor that exists already, whatever the flags say."""
        self._editor, self._fixed_editor = editor, True

    def settings_at(self, step: int) -> Settings:
        """What the user wants at an edit step, changes made while the run went on included."""
        settings = self._initial
        for event in self.session.events:
            if event.step <= step:
                settings = _apply_event(settings, event)
        return settings

    def check_event(self, event: Event) -> None:
        """Refuse a change that could not be carried out.

        Raises:
            InputError: saying why.
            LanguageError: if a language server fails.
        """
        settings = _apply_event(self.settings_at(event.step), event)
        if not settings.instructions:
            raise InputError("expected an instruction, got none: say what to change")
        self._editor_config.with_guidance(settings.guidance_scale, settings.image_guidance_scale)
        if self._editor is not None:
            # Planned at once: what is not understood must be said now and not end the run at its next edit.
            due = -(-event.step // self.schedule.rate) * self.schedule.rate
            self._plan(self._editor, settings, self.schedule.turns(due)[0].view)
            return
        early = plan_early(self._editor_config.chosen, settings.instructions)
        if early is not None:
            check_plan(self._editor_config, early, None)

    def show(self, step: int) -> None:
        """Set the working set to what it is before the edits of an edit step."""
        shown = self.session.working_set(step)
        for view in range(len(self.data.views)):
            if view in shown:
                self.data.show(view, self.session.image_of(shown[view]))
            else:
                self.data.show_original(view)

    def repeat_undo(self, step: int) -> None:
        """Show the photos before an undo of this edit step, which a resumed run comes upon again."""
        if any(event.kind == "undo" and event.step == step for event in self.session.events):
            self.show(step)

    def run_due(self, step: int) -> tuple[EditRecord, ...]:
        """Carry out the edits due at an edit step, all of them as one batch of the editor.

        Raises:
            SessionError: if an edit can't be stored.
            ParseError: if an instruction can't be understood.
            NothingFoundError: if nothing was found, in this view or in a whole sweep.
        """
        settings = self.settings_at(step)
        turns = self.schedule.turns(step)
        if settings.is_paused or not turns:
            return ()
        return self.run(turns, settings)

    def run(self, turns: Sequence[EditTurn], settings: Settings) -> tuple[EditRecord, ...]:
        """Carry out some edits as one batch."""
        self._began = self._began or time.monotonic()
        started = time.monotonic()
        editor = self._get_editor(settings)
        settings = self._plan(editor, settings, turns[0].view)
        views: list[EditView] = []
        records: list[EditRecord] = []
        for turn in turns:
            view = EditView(turn=turn, original=self.data.original(turn.view), render=self._render(turn.view))
            with self._own_precision():
                reason = self._find_masks(editor, view, settings)
            if reason is None:
                views.append(view)
            else:
                records.append(self.session.save_record(self._record(turn, settings, reason=reason)))
                self._tell(records[-1], time.monotonic() - started)
        if views:
            with self._own_precision():
                result = editor.edit(batch_request(views, settings, self._editor_config.draws_noise))
            for row, view in enumerate(views):
                records.append(self._store(view, result, row, settings))
                self._tell(records[-1], (time.monotonic() - started) / len(turns))
        self._check_sweep(turns[-1])
        return tuple(records)

    def _own_precision(self) -> torch.autocast:
        """Let the editor compute in the precision of its own weights.

        nerfstudio's trainer wraps the whole training step in autocast, which would run parts of a float32 editor in
        half precision, and an edit of a dry run would differ from that of a run.
        """
        return torch.autocast(torch.device(self.data.device).type, enabled=False)

    def _get_editor(self, settings: Settings) -> Editor:
        scales = (settings.guidance_scale, settings.image_guidance_scale)
        if self._editor is None or (scales != self._editor_scales and not self._fixed_editor):
            if self._backbone is None:
                self._backbone = self._editor_config.load_backbone()
            self._editor = self._editor_config.with_guidance(*scales).make(self._backbone, like=self._editor)
            self._editor_scales = scales
        return self._editor

    def _plan(self, editor: Editor, settings: Settings, view: int) -> Settings:
        """The settings with what language decides about them, from the session or, once, from a view's photo."""
        plan = self.session.plan(settings.instructions)
        if plan is None:
            with self._own_precision():
                plan = make_plan(editor, as_image(self.data.original(view)), settings.instructions)
            check_plan(self._editor_config, plan, None if self._backbone is None else self._backbone.tokenizer)
            self.session.save_plan(settings.instructions, plan)
        return replace(settings, instructions=plan.instructions, captions=plan.captions)

    def _find_masks(self, editor: Editor, view: EditView, settings: Settings) -> str | None:
        """Set the masks of a view; returns why there are none."""
        texts = tuple(i.text for i in settings.instructions)
        if self.rules.reuse_masks:
            first = self.session.found_masks(view.turn.view, texts, view.turn.step)
            if first is not None and first.image is None:
                return first.reason
            if first is not None:
                view.files = first.masks
                view.masks = tuple(self.session.mask_at(name) for name in first.masks)
                return None
        try:
            found = find_masks(editor, mask_request(view, settings))
        except NothingFoundError as error:
            if not self.rules.skip_empty:
                raise
            return str(error)
        # The editor gets the mask as it is stored, so that a resumed run gives it the same.
        view.masks = tuple(to_bytes(mask[0, 0]) for mask in found)
        return None

    def _store(self, view: EditView, result: EditResult, row: int, settings: Settings) -> EditRecord:
        used = to_bytes(result.mask[row, 0])
        after = to_bytes(result.image[row].permute(1, 2, 0))
        if self._editor_config.chosen.keep_outside != "paper":
            # The editor promises this; rounding must not break the promise.
            outside = (result.mask[row, 0] <= 0).cpu()
            after = torch.where(outside[..., None], view.original, after)
        masks = view.files or view.masks
        record = self._record(view.turn, settings, trace=asdict(result.trace.of_image(row, len(result.image))))
        record = self.session.save_edit(record, before=view.original, after=after, mask=used, masks=masks)
        self.data.show(view.turn.view, after)
        return record

    def _record(
        self, turn: EditTurn, settings: Settings, *, reason: str = "", trace: dict[str, object] | None = None
    ) -> EditRecord:
        config = self._editor_config
        return EditRecord(
            step=turn.step,
            view=turn.view,
            photo=self.data.photo_name(turn.view),
            index=turn.index,
            sweep=turn.sweep,
            noise_level=turn.noise_level if config.draws_noise else config.encoding_ratio,
            seed=turn.seed,
            instructions=tuple(i.text for i in settings.instructions),
            reason=reason,
            trace=trace or {},
        )

    def _check_sweep(self, turn: EditTurn) -> None:
        """Stop after a sweep in which nothing was found anywhere: the rest would be no better."""
        if turn.index + 1 < self.schedule.views:
            return
        records = self.session.records
        if records and all(record.image is None for record in records):
            raise InputError(
                f"nothing to edit was found in any of {len(records)} views ({records[-1].reason}): change "
                "--pipeline.instructions, lower the mask threshold, or see --pipeline.dry-run"
            )

    def _tell(self, record: EditRecord, seconds: float) -> None:
        self._made += 1
        total = max(self.rules.planned, record.index + 1)
        spent = time.monotonic() - (self._began or time.monotonic())
        left = spent / self._made * (total - record.index - 1)
        level = f"{'noise' if self._editor_config.draws_noise else 'ratio'} {record.noise_level:.2f}"
        state = "nothing found, photo kept" if record.image is None else level
        areas = record.trace.get("mask_area")
        area = f", mask {areas[0]:.1%}" if isinstance(areas, list | tuple) and areas else ""
        self._report(
            f"edit {record.index + 1}/{total}, sweep {record.sweep + 1}, {record.photo}: {state}{area}, "
            f"{seconds:.1f} s, ETA {format_duration(left)}"
        )


def _apply_event(settings: Settings, event: Event) -> Settings:
    if event.kind == "pause":
        return replace(settings, is_paused=bool(event.value))
    if event.kind == "settings":
        changes = dict(event.value)
        if "instructions" in changes:
            changes["instructions"] = tuple(Instruction(**each) for each in changes["instructions"])
        return replace(settings, **changes)
    return settings


def format_duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
