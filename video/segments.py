"""Long clips cut into segments of consecutive frames, each with fields of its own.

One canonical image holds only what a short clip shows. Neighbouring segments share frames, in which the picture goes
over from one to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .canonical import CanonicalImage
from .fit import ClipFit


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """How a long clip is cut."""

    length: int = 100
    """Frames of a segment at most, at least 2; a shorter clip is not cut."""
    overlap: int = 8
    """Frames that neighbouring segments share at least, in which one fades into the other; from 0 to half the
    length."""

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"length must be at least 2, got {self.length}")
        if not 0 <= self.overlap <= self.length // 2:
            raise ValueError(f"overlap must be from 0 to half the length, {self.length // 2}, got {self.overlap}")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A fitted part of a clip."""

    rows: slice
    """Its frames, by their numbers in the clip."""
    fit: ClipFit
    masks: Float[Tensor, "layer frame 1 height width"] | None = None
    """Share of each layer at every pixel of its frames, adding up to 1; None = one layer."""

    def mask(self, layer: int) -> Float[Tensor, "frame 1 height width"] | None:
        """The mask of one layer."""
        return None if self.masks is None else self.masks[layer]

    def canonical(self, layer: int) -> CanonicalImage:
        """The canonical image of one layer, what no frame shows marked and filled."""
        return self.fit.canonical(layer, self.masks)


def cut(frames: int, config: SegmentConfig) -> tuple[slice, ...]:
    """Segments of equal length that cover a clip.

    Args:
        frames: of the clip.
        config: how long they are and how much they overlap.
    """
    if frames <= config.length:
        return (slice(0, frames),)
    count = -((config.overlap - frames) // (config.length - config.overlap))
    length = -(-(frames + (count - 1) * config.overlap) // count)
    last = frames - length
    # Rounded halves would let one neighbour come too near; whole numbers spread the starts evenly.
    starts = [number * last // (count - 1) for number in range(count)]
    return tuple(slice(start, start + length) for start in starts)


def weights_at(frame: int, segments: Sequence[slice]) -> tuple[tuple[int, float], ...]:
    """Which segments show a frame, with weights that add up to 1.

    Only the segments that hold the frame count, so that the others need not be at hand.

    Args:
        frame: its number in the clip.
        segments: their frames, in the order of the clip.

    Raises:
        ValueError: if it belongs to none.
    """
    holding = [number for number, rows in enumerate(segments) if rows.start <= frame < rows.stop]
    if not holding:
        raise ValueError(f"frame {frame} belongs to no segment")
    shares = [_share(frame, [segments[number] for number in holding], place) for place in range(len(holding))]
    return tuple((number, share / sum(shares)) for number, share in zip(holding, shares, strict=True))


def _share(frame: int, holding: Sequence[slice], place: int) -> float:
    """How much a segment counts in a frame, before all that hold it are brought to a sum of 1."""
    share, own = 1.0, holding[place]
    if place > 0:
        overlap = holding[place - 1].stop - own.start
        share = min(share, (frame - own.start + 1) / (overlap + 1))
    if place + 1 < len(holding):
        overlap = own.stop - holding[place + 1].start
        share = min(share, (own.stop - frame) / (overlap + 1))
    return share
