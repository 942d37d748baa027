"""Protection of a scene over a run: from the first edit on, the region of the instructions in force may change."""

from dataclasses import replace
from typing import Any

from .edits import SceneEdits
from .lift import LiftedMasks
from .lift_store import LiftKey
from .model import MaskeditModel
from .session_records import Event


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
        self._generation = edits.session.generation
        self._events: tuple[Event, ...] | None = None

    def update(self, step: int) -> None:
        """Protect what is outside the region of an edit step; before anything is lifted, nothing is.

        It is a function of the session, so a resumed run protects what an unbroken one does.
        """
        session = self._edits.session
        if session.generation != self._generation:
            # A reset has given the scene the weights of before the first edit, and Gaussians forgot their region.
            self._generation, self._key, self._events = session.generation, None, None
            self._model.protect(None)
        events = tuple(event for event in session.events if event.step <= step)
        if events == self._events:
            return
        key = self._key_at(step)
        if key is None:
            return
        if key != self._key:
            self._protect(key)
        # A region that is lifted stays the same until the user does something.
        self._key, self._events = key, events

    def _key_at(self, step: int) -> LiftKey | None:
        """The region of an edit step; None = it is not lifted yet."""
        settings = self._edits.settings_at(step)
        plan = self._edits.session.plan(settings.instructions, settings.editor)
        if plan is None:
            return None
        planned = replace(settings, instructions=plan.instructions, captions=plan.captions)
        return self._masks.region_key(planned, step)

    def _protect(self, key: LiftKey) -> None:
        votes = self._masks.region(key, self._model)
        if isinstance(self._model, MaskeditModel):
            # A field is held to what it was; Gaussians outside the region simply stay.
            with self._masks.scene.lend() as scene:
                self._model.keep_start(scene)
        self._model.protect(votes)
