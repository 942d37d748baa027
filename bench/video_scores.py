"""What a method made of a clip with exact truth, measured.

Metrics, each the mean over clips of a value per clip; those in dB are first the mean over the frames of a clip:

- `psnr_truth` (dB): the clip as a user gets it against the truly edited one.
- `psnr_inside`, `psnr_outside` (dB): the same where the truth differs from the source, and where it does not.
- `warp_error`, `warp_inside`: `video/metrics.py`'s, in grey levels of 255, along the true motion of the edited twin
  where nothing hides it: in the whole picture, and where the truth differs from the source. Looking between pixels
  costs some in any clip: the row of the truth says how much.
- `warp_excess`: `warp_inside` beyond that of the truth, which is what the edit is to blame for. It can be negative: a
  picture blurred by its edit is the steadier.
- `flicker`, `flicker_inside`: likewise.
- `mask_iou`: the mask of each frame at 0.5 against the silhouettes of the edited blocks before and after.
- `psnr_fit` (dB): the frames as the fields give them, unedited, against the source.
- `refused`: share of pictures handed to the editor in which it found nothing to edit; they count as left alone.
- `seconds_flow`, `seconds_fit`, `seconds_edit`, `seconds_render`: of a clip, the loading of models excluded.

A value without meaning is left out of its mean; a mean of none is null.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..video.metrics import flicker, psnr, warp_error
from .blocks.clip import Clip
from .table import Row

STAGES = ("flow", "fit", "edit", "render")
METRICS = (
    *("psnr_truth", "psnr_inside", "psnr_outside", "warp_error", "warp_inside", "warp_excess"),
    *("flicker", "flicker_inside", "mask_iou", "psnr_fit", "refused", *(f"seconds_{stage}" for stage in STAGES)),
)
_LEVELS = 255


@dataclass(frozen=True, kw_only=True)
class ClipOutcome:
    """What a method made of a clip."""

    frames: UInt8[Tensor, "frame 3 height width"]
    mask: Float[Tensor, "frame 1 height width"] | None = None
    """None where the method has no mask."""
    refused: float = math.nan
    """Share of the pictures handed to the editor."""
    psnr_fit: float = math.nan
    """In dB; nan where nothing was fitted."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of the stages it has."""


def measure_clip(clip: Clip, outcome: ClipOutcome) -> Row:
    """The metrics of one clip."""
    frames, truth, motion = outcome.frames, clip.edited.frames, clip.edited
    changed, there, back = clip.changed[:, 0], ~motion.forward_occluded, ~motion.backward_occluded
    inside = (there & changed[:-1], back & changed[1:])
    warp_inside = warp_error(frames, motion.forward, inside[0])
    row: Row = {
        "kind": clip.spec.edits[0].kind,
        "psnr_truth": mean(psnr(frames, truth)),
        "psnr_inside": mean(psnr(frames, truth, changed)),
        "psnr_outside": mean(psnr(frames, truth, ~changed)),
        "warp_error": _LEVELS * warp_error(frames, motion.forward, there),
        "warp_inside": _LEVELS * warp_inside,
        "warp_excess": _LEVELS * (warp_inside - warp_error(truth, motion.forward, inside[0])),
        "flicker": _LEVELS * flicker(frames, motion.forward, motion.backward, there, back),
        "flicker_inside": _LEVELS * flicker(frames, motion.forward, motion.backward, *inside),
        "mask_iou": math.nan if outcome.mask is None else _iou(outcome.mask >= 0.5, clip.mask),
        "psnr_fit": outcome.psnr_fit,
        "refused": outcome.refused,
    }
    return row | {f"seconds_{stage}": outcome.seconds.get(stage, math.nan) for stage in STAGES}


def summarise_clips(method: str, name: str, values: Sequence[Row]) -> Row:
    """Means over clips."""
    row: Row = {"method": method, "set": name, "clips": len(values)}
    for metric in METRICS:
        value = mean([number for each in values if isinstance(number := each[metric], float)])
        row[metric] = value if math.isfinite(value) else None
    return row


def mean(values: Sequence[float]) -> float:
    """Of those that are finite; nan of none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def to_bytes(frames: Float[Tensor, "frame 3 height width"]) -> UInt8[Tensor, "frame 3 height width"]:
    """Frames with 8 bits a colour, as clips hold them."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8)


def _iou(mask: Tensor, truth: Tensor) -> float:
    """Mean over the frames."""
    both, either = (mask & truth).sum((1, 2, 3)), (mask | truth).sum((1, 2, 3))
    return float((both / either.clamp(min=1)).mean())
