"""Protection of a scene over a run: from the first edit on, the region of the instructions in force may change."""

from dataclasses import replace
from typing import Any

from .edits import SceneEdits
from .lift import LiftedMasks
from .lift_store import LiftKey
from .model import MaskeditModel


class Protection:
    """Tells the scene which region may change.

    Args:
        edits: say which instructions are in force.
        masks: know their region.
        model: the scene that trains.
    """

    def __init__(self, edits: SceneEdits, masks: LiftedMasks, model: Any) -> None:
        self._edits, self._masks, self._model = edits, masks, model
        self._key: LiftKey | None = None

    def update(self, step: int) -> None:
        """Protect what is outside the region of an edit step; before anything is lifted, nothing is.

        It is a function of the session, so a resumed run protects what an unbroken one does.
        """
        settings = self._edits.settings_at(step)
        plan = self._edits.session.plan(settings.instructions, settings.editor)
        if plan is None:
            return
        planned = replace(settings, instructions=plan.instructions, captions=plan.captions)
        key = self._masks.region_key(planned, step)
        if key is None or key == self._key:
            return
        if isinstance(self._model, MaskeditModel):
            # A field is held to what it was; Gaussians outside the region simply stay.
            self._model.keep_start(self._masks.scene.get())
        self._model.protect(self._masks.region(key, self._model))
        self._masks.scene.forget()
        self._key = key
