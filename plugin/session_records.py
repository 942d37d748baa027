"""What an edit session keeps of each edit, and of what the user did."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ..editors import EditorName

EventKind = Literal["undo", "pause", "settings", "region"]


@dataclass(frozen=True, kw_only=True)
class EditRecord:
    """One edit that was carried out, or was due and found nothing to edit."""

    step: int
    """Edit step."""
    view: int
    """Place of the view in the working set."""
    photo: str
    """File name of the photo."""
    index: int
    sweep: int
    noise_level: float
    """Share of the noise range the edit started from: drawn, or the encoding ratio of an editor that inverts."""
    seed: int
    instructions: tuple[str, ...]
    """Texts as planned, in the order of `masks`."""
    editor: EditorName | None = None
    """Who made it; None = the editor that the run began with."""
    image: str | None = None
    """The edited photo, relative to the session; None = nothing was found and the photo was left as it is."""
    masks: tuple[str, ...] = ()
    """Where each instruction may act."""
    mask: str | None = None
    """Where the edit acted: the union, as used."""
    strip: str | None = None
    reason: str = ""
    """Why there is no image."""
    trace: dict[str, Any] = field(default_factory=dict)
    made: int | None = None
    """Edit step, by `EditSession.clock`, of the scene it was made from; None = `step`. Beside training it is later."""

    @property
    def at(self) -> int:
        """The edit step in which it was made: what the user did up to then came before it."""
        return self.step if self.made is None else self.made


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something the user did while the run was going on, at an edit step: it is repeated when that step is repeated."""

    step: int
    """It takes effect before the edits of this edit step."""
    kind: EventKind
    value: Any = None
    """Of "undo": None = the last sweep was taken back, {"to": STEP} = every edit from that edit step on. Of "settings":
    the fields of `Settings` that were changed."""
