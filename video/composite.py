"""Edited frames: the source outside the mask, the edited canonical images inside.

Source: CoDeF (arXiv 2308.07926), section 3.4. Differs from the paper: a frame is not replaced as a whole, so that what
the edit did not touch keeps its bytes; and the change alone can be carried over, so that detail which the canonical
image has lost stays in the frame.
"""

from collections.abc import Sequence
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
_PIXELS_AT_ONCE = 1 << 21


@torch.no_grad()
def edit_frames(
    frames: UInt8[Tensor, "frame 3 height width"],
    numbers: Sequence[int],
    segments: Sequence[Segment],
    edited: Sequence[Sequence[EditedLayer]],
    transfer: Transfer = "replace",
) -> UInt8[Tensor, "frame 3 height width"]:
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
    chunk = max(1, _PIXELS_AT_ONCE // (frames.shape[-2] * frames.shape[-1]))
    parts = [
        _edit_chunk(frames[start : start + chunk], numbers[start : start + chunk], segments, edited, transfer)
        for start in range(0, len(frames), chunk)
    ]
    return torch.cat(parts) if parts else frames


def _edit_chunk(
    frames: UInt8[Tensor, "frame 3 height width"],
    numbers: Sequence[int],
    segments: Sequence[Segment],
    edited: Sequence[Sequence[EditedLayer]],
    transfer: Transfer,
) -> UInt8[Tensor, "frame 3 height width"]:
    shares = [dict(weights_at(number, [segment.rows for segment in segments])) for number in numbers]
    values = frames.float() / 255
    change = torch.zeros_like(values)
    for number, (segment, layers) in enumerate(zip(segments, edited, strict=True)):
        rows = [row for row, share in enumerate(shares) if number in share]
        if not rows:
            continue
        weight = values.new_tensor([shares[row][number] for row in rows]).view(-1, 1, 1, 1)
        own = torch.tensor([numbers[row] - segment.rows.start for row in rows])
        for layer, content in enumerate(layers):
            part = _layer_change(values[rows], own, segment, layer, content, transfer)
            if part is not None:
                change[rows] += weight * part.to(change.device)
    # Where nothing changes the sum is exactly what the frame was: bytes survive the way through floats.
    return ((values + change) * 255).clamp(0, 255).round().to(torch.uint8)


def _layer_change(
    frames: Float[Tensor, "frame 3 height width"],
    rows: Int[Tensor, " frame"],
    segment: Segment,
    layer: int,
    content: EditedLayer,
    transfer: Transfer,
) -> Float[Tensor, "frame 3 height width"] | None:
    """What a layer changes in some frames of its segment; None = nothing."""
    fit, size = segment.fit, (frames.shape[-2], frames.shape[-1])
    if not bool((content.mask > 0).any()):
        return None
    places = canonical_places(fit.offsets(layer, rows, size), fit.shape)
    mask = sample_pixels(content.mask.to(fit.device), places)
    own = segment.mask(layer)
    if own is not None:
        mask = mask * resize_image(own[rows], *size).to(fit.device)
    picture = sample_pixels(content.edited.to(fit.device), places)
    if transfer == "replace":
        return mask * (picture - frames.to(fit.device))
    return mask * (picture - sample_pixels(content.original.to(fit.device), places))
