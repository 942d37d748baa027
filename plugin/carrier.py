"""Edits on their way: due, made, stored, trained on; and what carries them along that way.

`SceneEdits` makes an edit within the training step in which it is due, `EditWorker` beside training, and `RankEdits`
divides those of a step over several devices.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from .session_records import EditRecord
from .slot import Settings
from .update import EditTurn


@dataclass(frozen=True, kw_only=True)
class EditWork:
    """Views that are to be edited together."""

    turns: tuple[EditTurn, ...]
    settings: Settings
    """As they were when the edits came due."""


@dataclass(frozen=True, kw_only=True)
class DraftEdit:
    """An edit that is made and not stored yet; in main memory, as it will lie on the disk."""

    record: EditRecord
    seconds: float
    """Time it took."""
    image: UInt8[Tensor, "height width 3"] | None = None
    """None = nothing was found."""
    used: UInt8[Tensor, "height width"] | None = None
    """Where the edit acted."""
    masks: tuple[UInt8[Tensor, "height width"] | str, ...] = ()
    """For each instruction its mask, or the file of an earlier edit that holds it."""


@dataclass(frozen=True, kw_only=True)
class MadeEdit:
    """An edit that is stored."""

    record: EditRecord
    image: UInt8[Tensor, "height width 3"] | None = None
    """What its view is to train on; None = nothing was found, and the view stays as it is."""


class NoEdits:
    """Carries out nothing: training by itself."""

    def run_due(self, step: int) -> None:
        """Nothing is edited."""

    def recall(self, *, forget: bool) -> None:
        """Nothing is under way."""

    def finish(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """There is nothing to let go of."""


@runtime_checkable
class EditCarrier(Protocol):
    """Carries out the edits of a run: within the training step, beside training, or divided over devices."""

    def run_due(self, step: int) -> object:
        """Do what is to be done about edits in an edit step, before it trains."""
        ...

    def recall(self, *, forget: bool) -> None:
        """Take back what is under way, before an undo or a reset.

        Args:
            forget: never make it; otherwise its turn comes again.
        """
        ...

    def finish(self) -> None:
        """Complete what is under way, at the end of training."""
        ...

    def close(self) -> None:
        """Let go of threads, however training ended."""
        ...
