"""The fields of the viewer that say what to edit and with what; nothing holds before it is applied."""

from dataclasses import replace
from typing import Any, get_args

from nerfstudio.viewer.viewer_elements import ViewerDropdown, ViewerElement, ViewerNumber, ViewerText

from ..editors import EditorName, InputError, Instruction
from .check import check_language_is_there
from .editor_cache import switch_editor
from .edits import SceneEdits
from .options import MaskeditPipelineConfig
from .session_history import apply_event, instruction_to_event
from .session_records import Event
from .slot import Settings
from .viewer_elements import set_visible

ROWS = 8
"""Instructions that the viewer has room for, where the command line does not give more."""
NAMES: tuple[EditorName, ...] = get_args(EditorName)


class EditFields:
    """Instructions with their strengths, guidance and editor.

    Args:
        config: of the run.
    """

    def __init__(self, config: MaskeditPipelineConfig) -> None:
        self._config = config
        self._known = config.read_instructions()
        self._rows: list[tuple[ViewerText, ViewerNumber[float]]] = []
        for number in range(max(ROWS, len(self._known))):
            is_shown = number <= len(self._known)
            self._rows.append(
                (
                    ViewerText(f"Instruction {number + 1}", "", visible=is_shown, hint="What to change; empty = none."),
                    ViewerNumber(
                        f"Strength {number + 1}",
                        1.0,
                        visible=is_shown,
                        hint="Emphasis in [-10, 10], 1 = as it is; read by foi.",
                    ),
                )
            )
        self.editor = ViewerDropdown(
            "Editor", config.editor.name, list(NAMES), hint="Its checkpoint is loaded at once."
        )
        self.guidance = ViewerNumber("Guidance scale", 0.0, hint="Text guidance, above 1.")
        self.image_guidance = ViewerNumber("Image guidance scale", 0.0, hint="How much of the photo stays, at least 1.")
        self.show(Settings(instructions=self._known))
        self._initial = self._applied

    @property
    def elements(self) -> dict[str, ViewerElement[Any]]:
        """All fields, by name."""
        rows: dict[str, ViewerElement[Any]] = {}
        for number, (text, strength) in enumerate(self._rows):
            rows |= {f"instruction{number}": text, f"strength{number}": strength}
        return {
            **rows,
            "editor": self.editor,
            "guidance_scale": self.guidance,
            "image_guidance_scale": self.image_guidance,
        }

    @property
    def settings(self) -> Settings:
        """What the run would do if the fields were applied, but for pauses and plans.

        Raises:
            InputError: if there is no instruction.
            ValueError: if a strength is out of range.
        """
        return apply_event(self._applied_settings, Event(step=0, kind="settings", value=self.changed()))

    def add_row(self) -> None:
        """Show one more instruction.

        Raises:
            InputError: if there is no room for more.
        """
        hidden = [row for row in self._rows if not row[0].visible]
        if not hidden:
            raise InputError(f"expected at most {len(self._rows)} instructions: join some, or edit one after another")
        for element in hidden[0]:
            set_visible(element, True)

    def changed(self) -> dict[str, Any]:
        """What differs from what was applied last; the rest stays as the flags and the checkpoint have it.

        Raises:
            InputError: if there is no instruction.
        """
        now, before = self._values(), self._applied
        value: dict[str, Any] = {}
        if now["instructions"] != before["instructions"]:
            value["instructions"] = self._instructions(now["instructions"])
        if now["editor"] != before["editor"]:
            # The scales of one editor say nothing to another.
            value |= {"editor": self._as_setting(now["editor"]), "guidance_scale": None, "image_guidance_scale": None}
        value |= {name: now[name] for name in ("guidance_scale", "image_guidance_scale") if now[name] != before[name]}
        if not switch_editor(self._config.editor, now["editor"]).has_image_guidance and "image_guidance_scale" in value:
            value["image_guidance_scale"] = None
        return value

    def check(self, edits: SceneEdits, event: Event) -> None:
        """Refuse an editor that could not be used, by loading it.

        Raises:
            MaskeditError: saying why.
        """
        if "editor" not in event.value:
            return
        settings = apply_event(edits.settings_at(event.step), event)
        editor = switch_editor(self._config.editor, settings.editor)
        editor = editor.with_guidance(settings.guidance_scale, settings.image_guidance_scale)
        replace(self._config, editor=editor, reconstruct_steps=0).check()
        check_language_is_there(editor)
        edits.load_editor(settings)

    def mark_applied(self) -> None:
        """Take what the fields show for what holds."""
        self.show(self.settings)

    def show(self, settings: Settings) -> None:
        """Show some settings, which hold from now on."""
        self._applied_settings = settings
        for number, (text, strength) in enumerate(self._rows):
            is_used = number < len(settings.instructions)
            given = settings.instructions[number] if is_used else None
            text.value = "" if given is None else given.text
            strength.value = 1.0 if given is None else float(given.strength)
            if is_used and not text.visible:
                set_visible(text, True)
                set_visible(strength, True)
        name = settings.editor or self._config.editor.name
        editor = switch_editor(self._config.editor, name)
        self.editor.value = name
        self.guidance.value = float(settings.guidance_scale or editor.resolved("guidance_scale"))
        set_visible(self.image_guidance, editor.has_image_guidance)
        if editor.has_image_guidance:
            scale = settings.image_guidance_scale or editor.resolved("image_guidance_scale")
            self.image_guidance.value = float(scale)
        self._applied = self._values()

    def forget(self) -> None:
        """A reset has forgotten what was applied, so what the fields show can be applied again."""
        self._applied = self._initial
        self._applied_settings = Settings(instructions=self._known)

    def _values(self) -> dict[str, Any]:
        rows = [(text.value.strip(), float(strength.value)) for text, strength in self._rows]
        return {
            "instructions": tuple(row for row in rows if row[0]),
            "editor": self.editor.value,
            "guidance_scale": float(self.guidance.value),
            "image_guidance_scale": float(self.image_guidance.value),
        }

    def _as_setting(self, name: EditorName) -> EditorName | None:
        return None if name == self._config.editor.name else name

    def _instructions(self, rows: tuple[tuple[str, float], ...]) -> list[dict[str, Any]]:
        """Instructions as they are stored; those of the command line keep their keyword."""
        if not rows:
            raise InputError("expected an instruction, got none: say what to change")
        keywords = {each.text: each.keyword for each in self._known}
        return [
            instruction_to_event(Instruction(text=text, keyword=keywords.get(text), strength=strength))
            for text, strength in rows
        ]
