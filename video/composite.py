"""Edited frames: the source outside the mask, the edited canonical images inside.

Source: CoDeF (arXiv 2308.07926), section 3.4. Differs from the paper: a frame is not replaced as a whole, so that what
the edit did not touch keeps its bytes; and the change alone can be carried over, so that detail which the canonical
image has lost stays in the frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ..editors import resize_image
from .editing import EditedLayer
from .render import canonical_places, sample_pixels
from .segments import Segment, weights_at

Transfer = Literal["replace", "residual"]
"""`replace`: inside the mask frames show the edited canonical image; `residual`: the difference between the edited and
the original one is added to the frame."""
_PIXELS_AT_ONCE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class EditedFrames:
    """Some frames after the edit."""

    frames: UInt8[Tensor, "frame 3 height width"]
    mask: Float[Tensor, "frame 1 height width"]
    """How far each pixel follows the edit, in [0, 1]; 0 = it kept its bytes."""


def edit_frames(
    frames: UInt8[Tensor, "frame 3 height width"],
    numbers: Sequence[int],
    segments: Sequence[Segment],
    edited: Sequence[Sequence[EditedLayer]],
    transfer: Transfer = "replace",
) -> UInt8[Tensor, "frame 3 height width"]:
    """`mask_and_edit_frames` without the masks."""
    return mask_and_edit_frames(frames, numbers, segments, edited, transfer).frames


@torch.no_grad()
def mask_and_edit_frames(
    frames: UInt8[Tensor, "frame 3 height width"],
    numbers: Sequence[int],
    segments: Sequence[Segment],
    edited: Sequence[Sequence[EditedLayer]],
    transfer: Transfer = "replace",
) -> EditedFrames:
    """Carry an edit of the canonical images into frames; outside the mask they keep their bytes.

    Args:
        frames: of the source, at any size: the offsets are computed at theirs.
        numbers: which frames of the clip they are.
        segments: at least those that hold these frames, in the order of the clip.
        edited: the layers of each of these segments, as in `EditedClip.segments`.
        transfer: how.

    Raises:
        ValueError: if a frame belongs to no segment, or counts differ.
    """
    if len(numbers) != len(frames) or len(edited) != len(segments):
        raise ValueError(
            f"expected a number for each of {len(frames)} frames and edits for each of {len(segments)} segments, "
            f"got {len(numbers)} and {len(edited)}"
        )
    done, masks = frames.clone(), frames.new_zeros(len(frames), 1, *frames.shape[-2:], dtype=torch.float32)
    chunk = max(1, _PIXELS_AT_ONCE // (frames.shape[-2] * frames.shape[-1]))
    for start in range(0, len(frames), chunk):
        rows = slice(start, start + chunk)
        done[rows], masks[rows] = _edit_chunk(frames[rows], numbers[rows], segments, edited, transfer)
    return EditedFrames(frames=done, mask=masks)


def _edit_chunk(
    frames: UInt8[Tensor, "frame 3 height width"],
    numbers: Sequence[int],
    segments: Sequence[Segment],
    edited: Sequence[Sequence[EditedLayer]],
    transfer: Transfer,
) -> tuple[UInt8[Tensor, "frame 3 height width"], Float[Tensor, "frame 1 height width"]]:
    shares = [dict(weights_at(number, [segment.rows for segment in segments])) for number in numbers]
    values = frames.float() / 255
    change, inside = torch.zeros_like(values), torch.zeros_like(values[:, :1])
    for number, (segment, layers) in enumerate(zip(segments, edited, strict=True)):
        rows = [row for row, share in enumerate(shares) if number in share]
        if not rows:
            continue
        weight = values.new_tensor([shares[row][number] for row in rows]).view(-1, 1, 1, 1)
        own = torch.tensor([numbers[row] - segment.rows.start for row in rows])
        for layer, content in enumerate(layers):
            if not bool((content.mask > 0).any()):
                continue
            mask, moved = _layer_change(values[rows], own, segment, layer, content, transfer)
            change[rows] += weight * moved.to(change.device)
            inside[rows] += weight * mask.to(inside.device)
    # Where nothing changes the sum is exactly what the frame was: bytes survive the way through floats.
    return ((values + change) * 255).clamp(0, 255).round().to(torch.uint8), inside.clamp(max=1)


def _layer_change(
    frames: Float[Tensor, "frame 3 height width"],
    rows: Int[Tensor, " frame"],
    segment: Segment,
    layer: int,
    content: EditedLayer,
    transfer: Transfer,
) -> tuple[Float[Tensor, "frame 1 height width"], Float[Tensor, "frame 3 height width"]]:
    """How far some frames of a segment follow one of its layers, and by how much that changes them.

    The edited picture is blended by its mask already: to multiply by the mask again would be to blend twice.
    """
    fit, size = segment.fit, (frames.shape[-2], frames.shape[-1])
    places = canonical_places(fit.offsets(layer, rows, size), fit.shape)
    edited, original, inside = (each.to(fit.device) for each in (content.edited, content.original, content.mask))
    mask = sample_pixels(inside, places)
    if transfer == "replace":
        # Without the original's part of the blend; that part is the frame's here.
        change = sample_pixels((edited - (1 - inside) * original) * (inside > 0), places) - mask * frames.to(fit.device)
    else:
        change = sample_pixels((edited - original) * (inside > 0), places)
    own = segment.mask(layer)
    if own is None:
        return mask, change
    share = resize_image(own[rows], *size).to(fit.device)
    return mask * share, change * share
