"""Controls of a run in nerfstudio's viewer; made only when a viewer runs.

The viewer calls back from threads of its own, so every control only asks, and the trainer answers before its next
step. What was asked for is kept in the session as an event at its edit step, and repeated when a resumed run repeats
the step.
"""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Protocol, runtime_checkable

from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerCheckbox, ViewerElement, ViewerNumber, ViewerText

from ..editors import Instruction, MaskeditError
from .session import EditSession, Event


@runtime_checkable
class SteeredRun(Protocol):
    """What the controls need of a trainer."""

    config: Any
    pipeline: Any
    session: EditSession | None
    requests: SimpleQueue[Callable[[], object]]

    @property
    def next_edit_step(self) -> int:
        """Edit step that comes next."""
        ...

    def undo(self) -> int:
        """Take back the last sweep of edits."""
        ...

    def reset(self) -> None:
        """Go back to the originals and the first scene."""
        ...


def attach_controls(trainer: SteeredRun) -> dict[str, ViewerElement]:
    """Make the controls, as attributes of the pipeline, where the viewer looks for them.

    Args:
        trainer: the run they steer.
    """
    config = trainer.config.pipeline

    def ask(action: Callable[[], None]) -> Callable[[object], None]:
        return lambda element: trainer.requests.put(lambda: _carry_out(action))

    text = ViewerText("Instructions (one per line or ;)", "; ".join(config.instructions))
    guidance = ViewerNumber("Guidance scale", float(config.editor.resolved("guidance_scale")))
    pause = ViewerCheckbox("Pause editing", False)

    fields: dict[str, ViewerText | ViewerNumber] = {"instructions": text, "guidance_scale": guidance}
    # Editors on captions have no such scale.
    if config.editor.has_image_guidance:
        scale = float(config.editor.resolved("image_guidance_scale"))
        fields["image_guidance_scale"] = ViewerNumber("Image guidance scale", scale)
    initial = {name: field.value for name, field in fields.items()}
    applied = dict(initial)

    def apply() -> None:
        # What the user left alone stays as the flags and the checkpoint have it.
        changed = {name: field.value for name, field in fields.items() if field.value != applied[name]}
        if not changed:
            return
        value: dict[str, Any] = dict(changed)
        if "instructions" in changed:
            value["instructions"] = _read_texts(changed["instructions"], config.read_instructions())
        add_event(trainer, Event(step=trainer.next_edit_step, kind="settings", value=value))
        applied.update(changed)

    def set_pause() -> None:
        add_event(trainer, Event(step=trainer.next_edit_step, kind="pause", value=bool(pause.value)))

    def undo() -> None:
        CONSOLE.log(f"undo: {trainer.undo()} edits taken back")

    def reset() -> None:
        trainer.reset()
        # A reset forgets what was applied, so what the fields show can be applied again.
        applied.update(initial)

    controls: dict[str, ViewerElement] = {
        **{f"edit_{name}": field for name, field in fields.items()},
        "edit_apply": ViewerButton("Apply instructions and guidance", cb_hook=ask(apply)),
        "edit_pause": pause,
        "edit_undo": ViewerButton("Undo the last sweep", cb_hook=ask(undo)),
        "edit_reset": ViewerButton("Reset photos and scene", cb_hook=ask(reset)),
    }
    pause.cb_hook = ask(set_pause)
    for name, control in controls.items():
        setattr(trainer.pipeline, name, control)
    return controls


def _read_texts(text: str, known: Sequence[Instruction]) -> list[dict[str, Any]]:
    """Instructions as they are stored; those of the command line keep their keyword and strength."""
    texts = [each.strip() for each in text.replace("\n", ";").split(";") if each.strip()]
    by_text = {i.text: {"text": i.text, "keyword": i.keyword, "strength": i.strength} for i in known}
    return [by_text.get(each, {"text": each}) for each in texts]


def add_event(trainer: SteeredRun, event: Event) -> None:
    """Keep what the user asked for, after checking that it can be done."""
    if trainer.session is None or trainer.pipeline.edits is None:
        return
    if event.kind == "settings":
        trainer.pipeline.edits.check_event(event)
    trainer.session.add_event(event)


def _carry_out(action: Callable[[], None]) -> None:
    """A mistake in the viewer must not end hours of training."""
    try:
        action()
    except (MaskeditError, ValueError) as error:
        CONSOLE.log(f"[bold red]maskedit: {error}")
