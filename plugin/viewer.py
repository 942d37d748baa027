"""Controls of a run in nerfstudio's viewer; made only when a viewer runs.

The viewer calls back from threads of its own, so every control only asks, and the trainer answers before its next
step, or at once while training is paused or over: nerfstudio holds the training lock around every callback. What was
asked for is kept in the session as an event at its edit step, and repeated when a resumed run repeats the step.
"""

import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Literal, Protocol, runtime_checkable

from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerDropdown, ViewerElement

from ..editors import InputError, MaskeditError
from .edits import SceneEdits
from .session import EditSession, Event
from .session_history import HeldSettings
from .viewer_elements import ControlFolder, set_visible
from .viewer_fields import EditFields
from .viewer_preview import PreviewPanel
from .viewer_region import RegionPanel
from .viewer_status import ViewerStatus

Action = Callable[[], None]
INTERVAL = 0.5
"""Seconds between two refreshes."""
_NOTHING_YET = "(nothing yet)"


@runtime_checkable
class SteeredRun(Protocol):
    """What the controls need of a trainer."""

    config: Any
    pipeline: Any
    ranks: Any
    train_lock: Any
    session: EditSession | None
    requests: SimpleQueue[Callable[[], object]]
    training_state: Literal["training", "paused", "completed"]

    def undo(self, to: int | None = None) -> int:
        """Take back the last sweep of edits, or all from an edit step on."""
        ...

    def reset(self) -> None:
        """Go back to the originals and the first scene, or refuse where there is nothing to go back to."""
        ...


class EditControls:
    """The controls of a run, as attributes of the pipeline, where the viewer looks for them.

    Args:
        trainer: the run they steer.
    """

    def __init__(self, trainer: SteeredRun) -> None:
        self._trainer: Any = trainer
        self.status = ViewerStatus()
        self.fields = EditFields(trainer.config.pipeline)
        self.preview = PreviewPanel(self)
        self.region = RegionPanel(self)
        self._held: dict[str, int] = {}
        self._refreshed = -INTERVAL
        apply = ViewerButton("Apply", cb_hook=self.asking(self._apply))
        self._more = ViewerButton("One more instruction", cb_hook=self.asking(self.fields.add_row))
        self._start = ViewerButton("Start editing", cb_hook=self.asking(lambda: self._pause(False)), visible=False)
        self._pause_button = ViewerButton("Pause editing", cb_hook=self.asking(lambda: self._pause(True)))
        self._earlier = ViewerDropdown("Back to", _NOTHING_YET, [_NOTHING_YET])
        edit = {"status": self.status.element, **self.fields.elements, "more": self._more, "apply": apply}
        edit |= {"start": self._start, "pause": self._pause_button}
        undo = {
            "sweep": ViewerButton("Undo the last sweep", cb_hook=self.asking(self._undo)),
            "earlier": self._earlier,
            "back": ViewerButton("Go back to it", cb_hook=self.asking(self._go_back)),
            "reset": ViewerButton("Reset photos and scene", cb_hook=self.asking(self._reset)),
        }
        self.elements: dict[str, ViewerElement[Any]] = {
            name: element
            for part in (edit, self.preview.elements, self.region.elements, undo)
            for name, element in part.items()
            if isinstance(element, ViewerElement)
        }
        # Folders come in the order of their names.
        trainer.pipeline.Edit = ControlFolder(edit)
        trainer.pipeline.Preview = ControlFolder({**self.preview.elements, "scene": self.preview.control})
        trainer.pipeline.Region = ControlFolder({**self.region.elements, "pointer": self.region.control})
        trainer.pipeline.Undo = ControlFolder(undo)

    @property
    def pipeline(self) -> Any:
        """The pipeline of the run."""
        return self._trainer.pipeline

    @property
    def session(self) -> EditSession:
        """The session of the run.

        Raises:
            InputError: if the run has not begun.
        """
        return self.edits.session

    @property
    def edits(self) -> SceneEdits:
        """The edits of the run.

        Raises:
            InputError: if the run has not begun.
        """
        if self.pipeline.edits is None:
            raise InputError("the run has not begun yet: wait for its first step")
        return self.pipeline.edits

    @property
    def step(self) -> int:
        """Edit step that comes next."""
        return self.edits.session.clock(self._trainer.next_edit_step)

    def asking(self, action: Action) -> Callable[[object], None]:
        """A callback of the viewer that asks the trainer for something."""

        def ask(element: object) -> None:
            self._trainer.requests.put(lambda: self.carry_out(action))
            if self._rests:
                self.answer()
            else:
                self.status.show_waiting(True)

        return ask

    @property
    def _rests(self) -> bool:
        """Whether no step comes that would answer; while several devices pause, the others wait within one."""
        state = self._trainer.training_state
        return state == "completed" or (state == "paused" and self._trainer.ranks.size == 1)

    def begin(self) -> None:
        """Show what holds as the run begins: a resumed one may have been told otherwise than by its command line."""
        settings = self.edits.settings_at(self.step)
        self.fields.show(settings)
        self.region.offer([each.text for each in settings.instructions])

    @property
    def at_end(self) -> TrainingCallback:
        """Answers what was asked during the last step, when the run is over and its checkpoint is written."""

        def answer(step: int) -> None:
            with self._trainer.train_lock:
                self.answer()

        return TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], answer)

    def answer(self) -> None:
        """Do what was asked for, in the order in which it was."""
        while not self._trainer.requests.empty():
            self._trainer.requests.get()()

    def carry_out(self, action: Action) -> None:
        """Do what was asked; a mistake in the viewer must not end hours of training."""
        try:
            action()
        except (MaskeditError, ValueError, OSError, RuntimeError) as error:
            self.status.fail(" ".join(str(error).split()) or type(error).__name__)
        finally:
            self.status.show_waiting(not self._trainer.requests.empty())

    def add_event(self, event: Event) -> None:
        """Keep what the user asked for, after checking that it can be done."""
        if event.kind == "settings":
            self.fields.check(self.edits, event)
            self.edits.check_event(event)
        self.session.add_event(event)

    def report(self, line: str) -> None:
        """Tell of an edit."""
        self.status.report(line)

    def refresh(self) -> None:
        """Show how far the run is; the trainer calls it after each step, and most calls do nothing."""
        now = time.monotonic()
        if now - self._refreshed < INTERVAL:
            return
        self._refreshed = now
        trainer, session = self._trainer, self.session
        ahead = session.edit_start - trainer.step
        settings = self.edits.settings_at(max(0, trainer.edit_step))
        if ahead > 0:
            progress = f"Reconstructing, {ahead} steps before the first edit"
        else:
            total = trainer.end_step - session.edit_start
            state = "editing is paused" if settings.is_paused else "editing"
            progress = f"Edit step {trainer.edit_step + 1} of {total}, {state}"
        self.status.show_progress(progress)
        self._show_held(session.history(self.step))
        self._show_paused(settings.is_paused)

    def _show_paused(self, is_paused: bool) -> None:
        if self._start.visible != is_paused:
            set_visible(self._start, is_paused)
            set_visible(self._pause_button, not is_paused)

    def _show_held(self, held: tuple[HeldSettings, ...]) -> None:
        """Offer what can be gone back to: the end of each earlier instruction, and the beginning."""
        held = tuple(each for each in held if each.edits)
        if not held:
            options = {}
        else:
            options = {"the photos, before every edit": 0}
            options |= {f"{each.number}. {each.describe()[:80]}": each.until for each in held[:-1]}
        if options == self._held and self._earlier.options != [_NOTHING_YET]:
            return
        if options or self._held:
            self._held = options
            self._earlier.set_options(list(options) or [_NOTHING_YET])
            self._earlier.value = self._earlier.options[-1]

    def _apply(self) -> None:
        value = self.fields.changed()
        if not value:
            self.status.say("nothing to apply: the fields are as they were applied last")
            return
        self.add_event(Event(step=self.step, kind="settings", value=value))
        self.fields.mark_applied()
        self._after_settings(f"from edit step {self.step} on: ")

    def _after_settings(self, when: str) -> None:
        settings = self.pipeline.edits.settings_at(self.step)
        texts = [each.text for each in settings.instructions]
        self.region.offer(texts)
        editor = f" ({settings.editor})" if settings.editor else ""
        self.status.say(f"{when}{'; '.join(texts)}{editor}")

    def _pause(self, is_paused: bool) -> None:
        self.add_event(Event(step=self.step, kind="pause", value=is_paused))
        self._show_paused(is_paused)
        self.status.say("editing is paused; training goes on" if is_paused else "editing goes on")

    def _undo(self) -> None:
        self.status.say(f"undo: {self._trainer.undo()} edits taken back")

    def _go_back(self) -> None:
        chosen = self._earlier.value
        if chosen not in self._held:
            raise InputError("nothing to go back to: no edit has been made")
        count = self._trainer.undo(to=self._held[chosen])
        self.fields.show(self.edits.settings_at(self.step))
        self._after_settings(f"back, {count} edits taken back; now: ")

    def _reset(self) -> None:
        self._trainer.reset()
        self.fields.forget()
        self.region.offer([each.text for each in self.edits.settings_at(0).instructions])
        self.status.say("reset: the photos and the scene before the first edit")
