"""Frames from a canonical image: warped by the offsets, composed by the layers' masks.

Source: CoDeF (arXiv 2308.07926), section 3.4. Pixels are sampled where they are, so that an undeformed field gives the
canonical image back exactly; the published code moves it by half a pixel.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .fields import FieldShape


def sample_pixels(
    values: Float[Tensor, "batch channels height width"], places: Float[Tensor, "frame rows columns 2"]
) -> Float[Tensor, "frame channels rows columns"]:
    """Bilinear samples at pixel places; a whole number gives that pixel exactly, and the border goes on outside.

    Args:
        values: one picture for all frames, or one for each.
        places: (x, y) in pixels, 0 = centre of the first one.
    """
    height, width = values.shape[-2:]
    x, y = places[..., 0].clamp(0, width - 1), places[..., 1].clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    across, down = (x - left)[:, None], (y - top)[:, None]
    flat = values.flatten(2).expand(len(places), -1, -1)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).long().flatten(1)[:, None]
        return flat.gather(2, index.expand(-1, flat.shape[1], -1)).unflatten(2, (x.shape[1], x.shape[2]))

    upper = at(top, left) * (1 - across) + at(top, right) * across
    lower = at(bottom, left) * (1 - across) + at(bottom, right) * across
    return upper * (1 - down) + lower * down


def canonical_places(
    offsets: Float[Tensor, "frame height width 2"], shape: FieldShape
) -> Float[Tensor, "frame height width 2"]:
    """Where pixels of frames lie in the canonical image, in its pixels.

    Args:
        offsets: of all pixels of some frames, normalised; of any resolution.
        shape: of the fields.
    """
    height, width = offsets.shape[1:3]

    def along(count: int, working: int) -> Float[Tensor, " _"]:
        # At the working size this is a whole number, exactly.
        scale = working / count
        return torch.arange(count, device=offsets.device) * scale + (0.5 * scale - 0.5 + shape.margin)

    x = along(width, shape.width) + offsets[..., 0] * shape.width
    y = along(height, shape.height)[:, None] + offsets[..., 1] * shape.height
    return torch.stack([x, y], -1)


def render_frames(
    canonical: Float[Tensor, "1 channels canonical_height canonical_width"],
    offsets: Float[Tensor, "frame height width 2"],
    shape: FieldShape,
) -> Float[Tensor, "frame channels height width"]:
    """Frames from a canonical image: colours, a mask, or an edit.

    Args:
        canonical: as large as the canonical image of the fields.
        offsets: of all pixels of the frames, normalised; they decide the size of the frames.
        shape: of the fields.

    Raises:
        ValueError: if the picture is not as large as the canonical image.
    """
    size = (shape.canonical_height, shape.canonical_width)
    if tuple(canonical.shape[-2:]) != size:
        raise ValueError(f"expected a canonical image of {size[1]}x{size[0]} pixels, got {tuple(canonical.shape)}")
    return sample_pixels(canonical, canonical_places(offsets, shape))


def compose(
    layers: Sequence[Float[Tensor, "frame channels height width"]],
    masks: Sequence[Float[Tensor, "frame 1 height width"]],
) -> Float[Tensor, "frame channels height width"]:
    """One picture of several layers.

    Args:
        layers: of the same frames.
        masks: share of each layer at every pixel; they add up to 1.
    """
    return torch.stack([layer * mask for layer, mask in zip(layers, masks, strict=True)]).sum(0)
