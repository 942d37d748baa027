"""What a canonical image and a deformation field are fitted to.

Source: CoDeF (arXiv 2308.07926), section 3.3, and the published code's settings. Differs from the paper: unreliable
flow is a mask of its own, not a marker among the values, and is divided by width and height along its own axes.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..editors import Image
from .fields import DeformationField, pixel_centres

_LUMA = (0.299, 0.587, 0.114)


def color_loss(
    predicted: Image, frames: Image, mask: Float[Tensor, "frame 1 height width"] | None = None
) -> Float[Tensor, ""]:
    """Mean squared difference over a mask.

    Args:
        predicted: what the fields say.
        frames: what the clip shows.
        mask: where it counts, in [0, 1]; None = everywhere.
    """
    return _mean((predicted - frames).square(), mask)


def gradient_loss(
    predicted: Image, frames: Image, mask: Float[Tensor, "frame 1 height width"] | None = None
) -> Float[Tensor, ""]:
    """Mean absolute difference of the Sobel responses of luma over a mask; a constant added to a picture costs nothing.

    Args:
        predicted: what the fields say.
        frames: what the clip shows.
        mask: where it counts, in [0, 1]; None = everywhere.
    """
    # Responses are linear, so those of the difference are the difference of those. Written out, because a kernel made
    # from numbers at every step would wait for the device each time.
    difference = predicted - frames
    luma = sum(weight * difference[:, channel : channel + 1] for channel, weight in enumerate(_LUMA))
    assert isinstance(luma, Tensor)
    padded = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 2:] - padded[..., :-2]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return _mean(torch.cat([across, down], 1).abs(), mask)


def flow_loss(
    field: DeformationField,
    offsets: Float[Tensor, "frame height width 2"],
    frames: Int[Tensor, " frame"],
    flow: Float[Tensor, "frame 2 height width"],
    trusted: Bool[Tensor, "frame height width"] | Float[Tensor, "frame height width"],
    share: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean distance in the canonical image between a pixel and where the flow finds it in the next frame.

    Args:
        field: gives the offsets in the next frames.
        offsets: of all pixels of some frames, normalised.
        frames: which frames; none is the last of the clip.
        flow: from each to the next, in pixels.
        trusted: where the flow counts.
        share: how much of the training is done.
    """
    height, width = flow.shape[-2:]
    here = pixel_centres(height, width, device=flow.device)
    there = here + torch.stack([flow[:, 0] / width, flow[:, 1] / height], -1)
    next_offsets = field(there.flatten(1, 2), frames + 1, share).unflatten(1, (height, width))
    distance = ((here + offsets) - (there + next_offsets)).abs().mean(-1)
    return _mean(distance[:, None], trusted[:, None].float())


def _mean(
    values: Float[Tensor, "frame channels height width"], mask: Float[Tensor, "frame 1 height width"] | None
) -> Float[Tensor, ""]:
    if mask is None:
        return values.mean()
    inside = mask.sum() * values.shape[1]
    return (values * mask).sum() / inside.clamp(min=1.0)
