"""How steady a clip is along its motion, and how near it comes to another one.

Motion comes from outside, so that clips of the same motion are measured by the same flow: in pixels, channel 0 to the
right and 1 down; what pixel p of a frame shows lies at p + flow(p) in the other. Frames are in [0, 1], or bytes. A clip
too long for memory feeds the differences of its parts to a `Mean`, which is what the measures of whole clips do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from .render import sample_pixels

Frames: TypeAlias = Float[Tensor, "frame 3 height width"] | UInt8[Tensor, "frame 3 height width"]
_CHUNK = 8
"""Frames measured at once."""


@dataclass(kw_only=True)
class Mean:
    """A mean that is fed part by part."""

    total: float = 0.0
    count: int = 0

    def add(
        self, values: Float[Tensor, "frame channels height width"], where: Bool[Tensor, "frame height width"]
    ) -> None:
        """Take in all channels of the pixels that count."""
        self.total += float((values.double() * where[:, None]).sum())
        self.count += int(where.sum()) * values.shape[1]

    @property
    def value(self) -> float:
        """Of everything so far; nan of nothing."""
        return self.total / self.count if self.count else math.nan


def warp_difference(
    before: Frames, after: Frames, flow: Float[Tensor, "frame 2 height width"]
) -> Float[Tensor, "frame 3 height width"]:
    """|after(p + flow(p)) - before(p)| of every pixel p, blended linearly between pixels.

    Args:
        before: frames.
        after: as many, each perhaps the next one of its clip.
        flow: from each frame to that after it.
    """
    return (_follow(_shares(after), flow) - _shares(before)).abs()


def warp_error(
    frames: Frames, flow: Float[Tensor, "pair 2 height width"], trusted: Bool[Tensor, "pair height width"]
) -> float:
    """How far what a pixel shows has changed by the next frame: mean of |frame_{t+1}(p + flow_t(p)) - frame_t(p)|.

    It counts all that motion does not explain: flicker, drift, changing light, and the blur of looking between pixels,
    for which even a true clip has some. So it says something beside that of the source or of the truth, by one flow.

    Args:
        frames: of a clip.
        flow: from each frame to the next.
        trusted: pixels that count.

    Returns:
        In [0, 1]; nan where no pixel counts.

    Source: the warping error of Learning Blind Video Temporal Consistency (arXiv 1808.00449), without its square;
    works on canonical images report it since.
    """

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        return warp_difference(frames[:-1][rows], frames[1:][rows], flow[rows]), trusted[rows]

    return _mean_of(part, len(flow))


def flicker_difference(
    before: Frames,
    frames: Frames,
    after: Frames,
    backward: Float[Tensor, "frame 2 height width"],
    forward: Float[Tensor, "frame 2 height width"],
) -> Float[Tensor, "frame 3 height width"]:
    """|before(p + backward(p)) - 2 frame(p) + after(p + forward(p))| / 2 of every pixel p.

    Args:
        before: the frame before each.
        frames: the frames whose pixels are followed.
        after: the frame after each.
        backward: from each frame to that before it.
        forward: from each frame to that after it.
    """
    sides = _follow(_shares(before), backward) + _follow(_shares(after), forward)
    return (sides - 2 * _shares(frames)).abs() / 2


def flicker(
    frames: Frames,
    forward: Float[Tensor, "pair 2 height width"],
    backward: Float[Tensor, "pair 2 height width"],
    forward_trusted: Bool[Tensor, "pair height width"],
    backward_trusted: Bool[Tensor, "pair height width"],
) -> float:
    """How much colours go to and fro along the motion: the mean absolute second difference over three frames, halved.

    A colour that drifts steadily costs nothing, such as that of a side turning out of the light; one that alternates by
    d costs d. The source's own noise and the blur of looking between pixels count, so it is read beside the source's
    flicker. The warp error of the edit alone, edited minus source, would be free of both, but would call it flicker
    when an edit drops noise or fine detail of the source, although that makes the picture steadier.

    Args:
        frames: of a clip.
        forward: from frame t to t + 1, at [t].
        backward: from frame t + 1 to t, at [t].
        forward_trusted: pixels of frame t, at [t].
        backward_trusted: pixels of frame t + 1, at [t].

    Returns:
        In [0, 1]; nan where no pixel counts, as in a clip of two frames.
    """

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        change = flicker_difference(
            frames[:-2][rows], frames[1:-1][rows], frames[2:][rows], backward[:-1][rows], forward[1:][rows]
        )
        return change, forward_trusted[1:][rows] & backward_trusted[:-1][rows]

    return _mean_of(part, len(forward) - 1)


def psnr(frames: Frames, truth: Frames, where: Bool[Tensor, "frame height width"] | None = None) -> list[float]:
    """How near each frame comes to the truth, in dB.

    Args:
        frames: of a clip.
        truth: of another one.
        where: pixels that count; None = all.

    Returns:
        A value per frame: infinite where it equals the truth, nan where no pixel counts.
    """
    values: list[float] = []
    for row in range(len(frames)):
        error, rows = Mean(), slice(row, row + 1)
        square = (_shares(frames[rows]) - _shares(truth[rows])).square()
        error.add(square, torch.ones_like(square[:, 0], dtype=torch.bool) if where is None else where[rows])
        values.append(math.inf if error.value == 0 else -10 * math.log10(error.value) if error.count else math.nan)
    return values


def _mean_of(part: Callable[[slice], tuple[Tensor, Tensor]], count: int) -> float:
    mean = Mean()
    for at in range(0, count, _CHUNK):
        mean.add(*part(slice(at, min(at + _CHUNK, count))))
    return mean.value


def _follow(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames fetched at p + flow(p); at whole numbers of pixels exactly."""
    height, width = flow.shape[-2:]
    columns, rows = torch.arange(width, device=flow.device), torch.arange(height, device=flow.device)
    return sample_pixels(frames, torch.stack([columns + flow[:, 0], rows[:, None] + flow[:, 1]], -1))


def _shares(frames: Tensor) -> Tensor:
    return frames if frames.is_floating_point() else frames.float() / 255
