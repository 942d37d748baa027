"""A mask painted on one frame, carried into the canonical images of all segments."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..editors import InputError, resize_image
from .render import canonical_places, render_frames
from .segments import Segment


@dataclass(frozen=True, kw_only=True)
class FrameMask:
    """A region of one frame."""

    frame: int
    """Its number in the clip, counted from 0."""
    mask: Float[Tensor, "1 1 height width"]
    """1 = may change; of the frame's proportions, at any size."""


@torch.no_grad()
def carry_mask(painted: FrameMask, segments: Sequence[Segment]) -> tuple[tuple[Float[Tensor, "1 1 _ _"], ...], ...]:
    """The region in the canonical image of every layer of every segment, in their whole size.

    Every segment that holds the frame takes the mask from it; the others are reached through frames that neighbours
    share. What those frames do not show stays outside.

    Args:
        painted: the mask.
        segments: of the clip, in its order.

    Raises:
        InputError: if the frame is not part of the clip, nothing is marked, or segments share no frames.
    """
    last = segments[-1].rows.stop - 1
    if not 0 <= painted.frame <= last:
        raise InputError(f"expected a mask for a frame from 0 to {last}, got frame {painted.frame}: name another frame")
    if not bool((painted.mask > 0).any()):
        raise InputError("the mask is black everywhere, so nothing may change: paint the region white")
    homes = [n for n, each in enumerate(segments) if each.rows.start <= painted.frame < each.rows.stop]
    carried = {home: _into_canonical(painted.mask, painted.frame, segments[home]) for home in homes}
    for step, numbers in ((-1, range(homes[-1] + 1, len(segments))), (1, range(homes[0] - 1, -1, -1))):
        for number in numbers:
            before, here = segments[number + step], segments[number]
            shared = range(max(before.rows.start, here.rows.start), min(before.rows.stop, here.rows.stop))
            if not shared:
                raise InputError(
                    "a mask painted on one frame reaches other segments through shared frames, and these share none: "
                    "set an overlap of at least 1 frame"
                )
            # The middle of what they share is seen well by both.
            frame = shared[len(shared) // 2]
            carried[number] = _into_canonical(_into_frame(carried[number + step], frame, before), frame, here)
    return tuple(carried[number] for number in range(len(segments)))


def _into_canonical(
    mask: Float[Tensor, "1 1 _ _"], frame: int, segment: Segment
) -> tuple[Float[Tensor, "1 1 height width"], ...]:
    """A mask of a frame in the canonical images of all layers."""
    shape, row, device = segment.fit.shape, frame - segment.rows.start, segment.fit.device
    size = (shape.height, shape.width)
    mask = resize_image(mask.to(device), *size)
    found: list[Tensor] = []
    for layer in range(len(segment.fit.layers)):
        own = segment.mask(layer)
        belongs = torch.ones_like(mask) if own is None else (own[row : row + 1].to(device) > 0.05).to(mask.dtype)
        offsets = segment.fit.offsets(layer, torch.tensor([row]), size)
        found.append(_scatter(mask, belongs, offsets, (shape.canonical_height, shape.canonical_width), segment))
    return tuple(found)


def _scatter(
    mask: Float[Tensor, "1 1 height width"],
    belongs: Float[Tensor, "1 1 height width"],
    offsets: Float[Tensor, "1 height width 2"],
    size: tuple[int, int],
    segment: Segment,
) -> Float[Tensor, "1 1 canonical_height canonical_width"]:
    """The mean of the mask's values that fall on each pixel, with the gaps between them closed."""
    rows, columns = size
    near = canonical_places(offsets, segment.fit.shape).flatten(0, 2).round()
    inside = ((near >= 0) & (near <= near.new_tensor([columns - 1, rows - 1]))).all(-1).to(mask.dtype)
    index = (near[:, 1] * columns + near[:, 0]).long().clamp(0, rows * columns - 1)
    count = belongs.flatten() * inside
    sums = mask.new_zeros(2, rows * columns).index_add_(1, index, torch.stack([mask.flatten() * count, count]))
    mean = (sums[0] / sums[1].clamp(min=1)).view(1, 1, rows, columns)
    # A frame that is shown enlarged leaves gaps of a pixel or two between its own pixels.
    closed = -F.max_pool2d(-F.pad(F.max_pool2d(F.pad(mean, (2,) * 4), 5, 1), (2,) * 4, value=1.0), 5, 1)
    return torch.where(sums[1].view_as(mean) > 0, mean, closed)


def _into_frame(
    masks: Sequence[Float[Tensor, "1 1 _ _"]], frame: int, segment: Segment
) -> Float[Tensor, "1 1 height width"]:
    """Masks of the canonical images as one frame shows them."""
    shape, row = segment.fit.shape, frame - segment.rows.start
    whole = masks[0].new_zeros(1, 1, shape.height, shape.width)
    for layer, mask in enumerate(masks):
        offsets = segment.fit.offsets(layer, torch.tensor([row]), (shape.height, shape.width))
        part, own = render_frames(mask, offsets, shape), segment.mask(layer)
        whole += part if own is None else part * own[row : row + 1].to(part)
    return whole.clamp(0, 1)
