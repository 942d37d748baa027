"""Carrying out edits: render a view, ask the editor, store the result, train on it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from threading import RLock

import torch

from ..editors import Editor, EditResult, InputError
from .carrier import DraftEdit, EditWork, MadeEdit
from .consistency import ViewTies
from .editor import SceneEditorConfig
from .editor_cache import EditorCache, switch_editor
from .plan import check_plan, make_plan, plan_early
from .scene import ViewRender
from .session import EditRecord, EditSession, Event
from .session_history import apply_event
from .slot import EditView, Settings, as_image, batch_request
from .storage import to_bytes
from .update import EditSchedule, EditTurn
from .view_masks import ViewMasks
from .working_set import EditedPhotos


class EmptySweepError(InputError):
    """Nothing to edit was found in any view."""


class SceneEdits:
    """The edits of a run, each made within the training step in which it is due.

    Args:
        data: originals and working set.
        session: where edits are stored.
        schedule: which view when.
        editor_config: the editor, loaded at the first edit.
        settings: instructions and guidance at the start; events of the session change them.
        masks: gives views their masks.
        render: the current scene from a view.
        report: receives one line for each edit.
        planned: edits of the whole run, for the progress line.
        ties: makes the views of a batch agree; None = each is edited for itself.
    """

    def __init__(
        self,
        *,
        data: EditedPhotos,
        session: EditSession,
        schedule: EditSchedule,
        editor_config: SceneEditorConfig,
        settings: Settings,
        masks: ViewMasks,
        render: Callable[[int], ViewRender],
        report: Callable[[str], None],
        planned: int = 0,
        ties: ViewTies | None = None,
    ) -> None:
        self.data, self.session, self.schedule, self.planned = data, session, schedule, planned
        self._initial, self._masks, self._render, self._report = settings, masks, render, report
        self._cache, self._ties = EditorCache(editor_config), ties
        self.editor_lock = RLock()
        """Held while the editor works: with edits beside training more than one thread may ask for it."""
        self._began: float | None = None
        self._made = 0

    @property
    def has_editor(self) -> bool:
        """Whether an editor has been loaded."""
        return self._cache.has_editor

    def use_editor(self, editor: Editor) -> None:
        """Use an editor that exists already, whatever the flags say."""
        self._cache.use(editor)

    def settings_at(self, step: int) -> Settings:
        """What the user wants at an edit step, changes made while the run went on included."""
        return self.settings_then(self.session.clock(step))

    def settings_then(self, step: int) -> Settings:
        """What the user had wanted by an edit step, whatever a run that edits beside training has seen since."""
        settings = self._initial
        for event in self.session.events:
            if event.step <= step:
                settings = apply_event(settings, event)
        return settings

    def check_event(self, event: Event) -> None:
        """Refuse a change that could not be carried out.

        Raises:
            InputError: saying why.
            LanguageError: if a language server fails.
        """
        settings = apply_event(self.settings_at(event.step), event)
        if not settings.instructions:
            raise InputError("expected an instruction, got none: say what to change")
        config, editor = self._cache.config_for(settings), self._cache.peek(settings)
        if self._ties is not None:
            self._ties.check(config, self.schedule.count)
        if editor is not None:
            # Planned at once: what is not understood must be said now and not end the run at its next edit.
            due = self.schedule.next_due(event.step)
            with self.editor_lock:
                self._plan(editor, settings, self.schedule.turns(due)[0].view)
            return
        early = plan_early(config.chosen, settings.instructions)
        if early is not None:
            check_plan(config, early, None)

    def show(self, step: int) -> None:
        """Set the working set to what it is before the edits of an edit step."""
        shown = self.session.working_set(self.session.clock(step))
        for view in range(len(self.data.views)):
            if view in shown:
                self.data.show(view, self.session.image_of(shown[view]))
            else:
                self.data.show_original(view)

    def repeat_undo(self, step: int) -> None:
        """Show the photos before an undo of this edit step, which a resumed run comes upon again."""
        if any(event.kind == "undo" and event.step == step for event in self.session.events):
            self.show(step)

    def due(self, step: int) -> EditWork | None:
        """What is to be edited at an edit step; None = nothing."""
        turns = self.schedule.turns(step)
        if not turns:
            return None
        settings = self.settings_at(step)
        return None if settings.is_paused else EditWork(turns=turns, settings=settings)

    def run_due(self, step: int) -> tuple[EditRecord, ...]:
        """Carry out the edits due at an edit step, all of them as one batch of the editor.

        Raises:
            SessionError: if an edit can't be stored.
            ParseError: if an instruction can't be understood.
            NothingFoundError: if nothing was found in a view and such views are not to be skipped.
            EmptySweepError: if nothing was found in a whole sweep.
        """
        work = self.due(step)
        return () if work is None else self.run(work)

    def run(self, work: EditWork) -> tuple[EditRecord, ...]:
        """Carry out some edits as one batch, and train on them."""
        made = self.make(work)
        self.land(made)
        return tuple(each.record for each in made)

    def load_editor(self, settings: Settings) -> None:
        """Load the editor that some settings ask for, before it is needed.

        Raises:
            ModelError: if its checkpoint is missing, damaged or of another kind.
        """
        with self.editor_lock:
            self._cache.get(settings)

    def plan_ahead(self, work: EditWork) -> None:
        """Do what serves all views of some work, before it is made: ask language, and lift masks."""
        with self.editor_lock:
            editor = self._cache.get(work.settings)
            settings = self._plan(editor, work.settings, work.turns[0].view)
            with self._own_precision():
                self._masks.prepare(editor, settings, work.turns[0].step)

    def make(self, work: EditWork, render: Callable[[int], ViewRender] | None = None) -> tuple[MadeEdit, ...]:
        """Edit some views as one batch and store what came out; what trains is left as it is.

        Args:
            work: what is to be done.
            render: the scene to edit, where that is not the scene that trains.
        """
        return self.store(self.draft(work, render))

    def draft(
        self,
        work: EditWork,
        render: Callable[[int], ViewRender] | None = None,
        *,
        masks: ViewMasks | None = None,
        keeps_plan: bool = True,
    ) -> tuple[DraftEdit, ...]:
        """Edit some views as one batch; of the session nothing but the plan is changed.

        Args:
            work: what is to be done.
            render: the scene to edit, where that is not the scene that trains.
            masks: gives the views their masks, where that is not what gives those of the run.
            keeps_plan: whether the plan goes into the session.
        """
        with self.editor_lock:
            self._began = self._began or time.monotonic()
            started = time.monotonic()
            editor = self._cache.get(work.settings)
            settings = self._plan(editor, work.settings, work.turns[0].view, keep=keeps_plan)
            views: list[EditView] = []
            drafts: list[DraftEdit] = []
            for turn in work.turns:
                seen = (render or self._render)(turn.view)
                view = EditView(
                    turn=turn, original=self.data.original(turn.view), render=seen.image, points=seen.points
                )
                with self._own_precision():
                    reason = (masks or self._masks).fill(editor, view, settings)
                if reason is None:
                    views.append(view)
                else:
                    record = self._record(turn, settings, reason=reason)
                    drafts.append(DraftEdit(record=record, seconds=time.monotonic() - started))
            if views:
                with self._own_precision():
                    request = batch_request(views, settings, self._cache.config_for(settings).draws_noise)
                    result = editor.edit(request if self._ties is None else self._ties.tie(request, views))
                seconds = (time.monotonic() - started) / len(work.turns)
                drafts += [self._draft(view, result, row, settings, seconds) for row, view in enumerate(views)]
            return tuple(drafts)

    def store(self, drafts: Sequence[DraftEdit]) -> tuple[MadeEdit, ...]:
        """Write drafts into the session.

        Raises:
            SessionError: if the disk refuses.
        """
        made: list[MadeEdit] = []
        for draft in drafts:
            if draft.image is None or draft.used is None:
                record = self.session.save_record(draft.record)
            else:
                before = self.data.original(draft.record.view)
                record = self.session.save_edit(
                    draft.record, before=before, after=draft.image, mask=draft.used, masks=draft.masks
                )
            made.append(MadeEdit(record=record, image=draft.image))
            self._tell(record, draft.seconds)
        return tuple(made)

    def land(self, made: Sequence[MadeEdit]) -> None:
        """Train on what was made from now on.

        Raises:
            EmptySweepError: if nothing was found in a whole sweep.
        """
        for each in made:
            if each.image is not None:
                self.data.show(each.record.view, each.image)
        if made:
            self._check_sweep(max(each.record.index for each in made))

    def recall(self, *, forget: bool) -> None:
        """Nothing is under way between two steps."""

    def finish(self) -> None:
        """Nothing is under way after the last step."""

    def close(self) -> None:
        """There is nothing to let go of."""

    def _own_precision(self) -> torch.autocast:
        """Let the editor compute in the precision of its own weights.

        nerfstudio's trainer wraps the whole training step in autocast, which would run parts of a float32 editor in
        half precision, and an edit of a dry run would differ from that of a run.
        """
        return torch.autocast(torch.device(self.data.device).type, enabled=False)

    def _plan(self, editor: Editor, settings: Settings, view: int, *, keep: bool = True) -> Settings:
        """The settings with what language decides about them, from the session or, once, from a view's photo."""
        plan = self.session.plan(settings.instructions, settings.editor)
        if plan is None:
            with self._own_precision():
                plan = make_plan(editor, as_image(self.data.original(view)), settings.instructions)
            check_plan(self._cache.config_for(settings), plan, self._cache.tokenizer_for(settings))
            if keep:
                self.session.save_plan(settings.instructions, plan, settings.editor)
        return replace(settings, instructions=plan.instructions, captions=plan.captions)

    def _draft(self, view: EditView, result: EditResult, row: int, settings: Settings, seconds: float) -> DraftEdit:
        after = to_bytes(result.image[row].permute(1, 2, 0))
        if self._cache.config_for(settings).chosen.keep_outside != "paper":
            # The editor promises this; rounding must not break the promise.
            outside = (result.mask[row, 0] <= 0).cpu()
            after = torch.where(outside[..., None], view.original, after)
        return DraftEdit(
            record=self._record(view.turn, settings, trace=asdict(result.trace.of_image(row, len(result.image)))),
            seconds=seconds,
            image=after,
            used=to_bytes(result.mask[row, 0]),
            masks=view.files or view.masks,
        )

    def _record(
        self, turn: EditTurn, settings: Settings, *, reason: str = "", trace: dict[str, object] | None = None
    ) -> EditRecord:
        config = self._cache.config_for(settings)
        return EditRecord(
            step=turn.step,
            view=turn.view,
            photo=self.data.photo_name(turn.view),
            index=turn.index,
            sweep=turn.sweep,
            noise_level=turn.noise_level if config.draws_noise else config.encoding_ratio,
            seed=turn.seed,
            editor=settings.editor,
            instructions=tuple(i.text for i in settings.instructions),
            reason=reason,
            trace=trace or {},
        )

    def _check_sweep(self, index: int) -> None:
        """Stop after a sweep in which nothing was found anywhere: the rest would be no better."""
        if index + 1 < self.schedule.views:
            return
        records = self.session.records
        if records and all(record.image is None for record in records):
            raise EmptySweepError(
                f"nothing to edit was found in any of {len(records)} views ({records[-1].reason}): change "
                "--pipeline.instructions, lower the mask threshold, or see --pipeline.dry-run"
            )

    def _tell(self, record: EditRecord, seconds: float) -> None:
        self._made += 1
        total = max(self.planned, record.index + 1)
        spent = time.monotonic() - (self._began or time.monotonic())
        left = spent / self._made * (total - record.index - 1)
        draws_noise = switch_editor(self._cache.config, record.editor).draws_noise
        level = f"{'noise' if draws_noise else 'ratio'} {record.noise_level:.2f}"
        state = "nothing found, photo kept" if record.image is None else level
        areas = record.trace.get("mask_area")
        area = f", mask {areas[0]:.1%}" if isinstance(areas, list | tuple) and areas else ""
        self._report(
            f"edit {record.index + 1}/{total}, sweep {record.sweep + 1}, {record.photo}: {state}{area}, "
            f"{seconds:.1f} s, ETA {format_duration(left)}"
        )


def format_duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
