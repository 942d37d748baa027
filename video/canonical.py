"""The canonical image as editors should see it: cut to what frames show, and nothing but that.

A field has colours everywhere, but where no frame ever looks they are left over from training. Detectors and captioners
find things in there, so these places are marked, and filled with the colours of what surrounds them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..editors import Image
from .fields import DeformationField, FieldShape
from .render import canonical_places


@dataclass(frozen=True, kw_only=True)
class CanonicalImage:
    """A canonical image and what of it the frames see."""

    image: Image
    """Of the whole canonical size; unseen places are filled."""
    seen: Bool[Tensor, "1 1 canonical_height canonical_width"]
    """Places that some frame shows."""

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns that hold everything seen."""
        rows, columns = self.seen[0, 0].any(1).nonzero(), self.seen[0, 0].any(0).nonzero()
        if not len(rows):
            height, width = self.seen.shape[-2:]
            return slice(0, height), slice(0, width)
        return (
            slice(int(rows[0]), int(rows[-1]) + 1),
            slice(int(columns[0]), int(columns[-1]) + 1),
        )


@torch.no_grad()
def find_seen(
    field: DeformationField,
    shape: FieldShape,
    mask: Float[Tensor, "frame 1 height width"] | None = None,
    *,
    chunk: int = 8,
) -> Bool[Tensor, "1 1 canonical_height canonical_width"]:
    """Pixels of the canonical image that some frame shows.

    Args:
        field: the offsets of all frames.
        shape: of the fields.
        mask: pixels of the frames that belong to the layer; None = all.
        chunk: frames at once.
    """
    device = next(field.parameters()).device
    rows, columns = shape.canonical_height, shape.canonical_width
    hits = torch.zeros(rows * columns, device=device)
    for frames in torch.arange(shape.frames, device=device).split(chunk):
        places = canonical_places(field.on_grid(frames, shape.height, shape.width), shape).flatten(0, 2)
        belongs = torch.ones(len(places), device=device)
        if mask is not None:
            belongs = (mask.to(device)[frames] > 0.05).float().flatten()
        near = places.round()
        inside = ((near >= 0) & (near <= near.new_tensor([columns - 1, rows - 1]))).all(-1)
        index = (near[:, 1] * columns + near[:, 0]).long().clamp(0, rows * columns - 1)
        hits.index_add_(0, index, belongs * inside)
    seen = (hits > 0).float().view(1, 1, rows, columns)
    # Where a frame is shown enlarged its pixels leave gaps of a pixel or two: closed, and not grown.
    closed = -F.max_pool2d(-F.max_pool2d(F.pad(seen, (4,) * 4), 5, 1), 5, 1)
    return closed > 0


def fill_unseen(image: Image, seen: Bool[Tensor, "1 1 height width"]) -> Image:
    """The picture with unseen places in the smoothed colours of what is seen around them.

    Args:
        image: the picture.
        seen: what stays as it is.
    """
    if bool(seen.all()) or not bool(seen.any()):
        return image
    weight = seen.to(image.dtype)
    return torch.where(seen, image, _pull_and_push(image * weight, weight))


def _pull_and_push(sums: Image, weight: Float[Tensor, "1 1 height width"]) -> Image:
    """Weighted means from ever wider surroundings, wherever the nearer ones hold nothing."""
    own = sums / weight.clamp(min=1e-6)
    height, width = weight.shape[-2:]
    if min(height, width) <= 1:
        return own
    half = ((height + 1) // 2, (width + 1) // 2)
    wider = _pull_and_push(F.interpolate(sums, half, mode="area"), F.interpolate(weight, half, mode="area"))
    around = F.interpolate(wider, (height, width), mode="bilinear", align_corners=False)
    return own * weight.clamp(max=1) + around * (1 - weight.clamp(max=1))


@torch.no_grad()
def canonical_image(
    image: Image,
    field: DeformationField,
    shape: FieldShape,
    mask: Float[Tensor, "frame 1 frame_height frame_width"] | None = None,
) -> CanonicalImage:
    """A layer's canonical image with what no frame shows marked and filled.

    Args:
        image: as the field gives it.
        field: the offsets of all frames.
        shape: of the fields.
        mask: pixels of the frames that belong to the layer; None = all.
    """
    seen = find_seen(field, shape, mask)
    return CanonicalImage(image=fill_unseen(image, seen), seen=seen)
