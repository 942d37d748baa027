"""What ties the pictures of one request together, where they show the same thing from several sides.

By default nothing does: each picture has noise and attention of its own, and its result does not depend on its
neighbours. This module imports nothing heavy, because requests carry these settings.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from .types import Latents

GAUSSCTRL_OWN_SHARE = 0.6
"""Share of a view's own attention beside that to references, in GaussCtrl (arXiv 2403.08733)."""


@runtime_checkable
class NoiseSource(Protocol):
    """Where the start noise of the pictures of a request comes from, if not from each picture's own seed."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the account of an edit says about it; plain data."""
        ...

    def rows(self, rows: slice) -> "NoiseSource":
        """The source of some of the pictures."""
        ...

    def draw(self, own: Latents, *, filled: tuple[float, float]) -> Latents:
        """Standard normal noise for every picture.

        Args:
            own: noise from each picture's own seed; it stays wherever this source has nothing to say.
            filled: share of the latents' height and width that shows the picture, from the top left corner on; the
                rest is padding.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ViewSharing:
    """Whose keys and values the self-attention of each picture of a request reads, besides its own."""

    among: Literal["all", "references"] = "all"
    """`all`: every picture attends to all of them at once, as in TokenFlow and DGE; `references`: to some of them, one
    after another, and the mean of the outputs counts, as in GaussCtrl."""
    references: int = 4
    """How many pictures, evenly spread over the request, are references, at least 1; read with `references`."""
    own_share: float | None = None
    """c: share of a picture's plain self-attention in the outcome, in [0, 1]; None = 0 among all, 0.6 with references,
    as published. 1 = nothing is shared."""
    stages: tuple[Literal["down", "mid", "up"], ...] = ("down", "mid", "up")
    """Parts of the UNet whose self-attention is shared; published: all."""

    def __post_init__(self) -> None:
        if self.references < 1:
            raise ValueError(f"references must be at least 1, got {self.references}")
        if self.own_share is not None and not 0 <= self.own_share <= 1:
            raise ValueError(f"own_share must be in [0, 1], got {self.own_share:g}")
        if not self.stages:
            raise ValueError("stages must name at least one of down, mid, up, got none")

    @property
    def own(self) -> float:
        """The share of plain self-attention, the default resolved."""
        if self.own_share is not None:
            return self.own_share
        return 0.0 if self.among == "all" else GAUSSCTRL_OWN_SHARE

    def reference_rows(self, views: int) -> tuple[int, ...]:
        """Rows of the pictures that are references; all of them where there are no more than that."""
        count = min(self.references, views)
        return tuple(i * views // count for i in range(count))
