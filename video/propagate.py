"""Masks of a few frames carried to all the others by optical flow.

Every frame between two key frames asks both: its pixels look up where the flow leads them in either, and the answers
are averaged. The nearer key frame weighs more; where the flow to one of them is not trusted, the other one decides.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from .fields import pixel_centres
from .flow import ClipFlow, chain_flow
from .mask_files import mask_to_bytes

FlowBetween = Callable[[int, int], ClipFlow]
"""Flow of the frames from a first one up to but not with another: `ClipFlow.between`, or what computes it piece by
piece, so that a long clip's flow never is in memory at once."""

_DISTRUSTED = 1e-3
"""Weight of an answer whose flow is not trusted: it counts only where no other is."""
_STEEPNESS = 2.0
"""How fast a propagated mask rises around the threshold; its edges stay soft over about half a pixel."""


@torch.no_grad()
def propagate_masks(
    known: Sequence[Mapping[int, Float[Tensor, "1 height width"]]],
    flow: FlowBetween,
    *,
    frames: int,
    threshold: float = 0.5,
) -> UInt8[Tensor, "layer frame 1 height width"]:
    """Masks of all frames, 255 = inside.

    Args:
        known: for each layer the masks of its key frames in [0, 1], by number of the frame; at least one each.
        flow: of the clip.
        frames: length of the clip.
        threshold: averaged answer from which a pixel is inside, in (0, 1).
    """
    height, width = next(iter(known[0].values())).shape[-2:]
    masks = torch.zeros(len(known), frames, 1, height, width, dtype=torch.uint8)
    windows: dict[tuple[int, ...], list[int]] = {}
    for layer, keys in enumerate(known):
        for frame, mask in keys.items():
            masks[layer, frame] = mask_to_bytes(mask).cpu()
        for window in _windows(sorted(keys), frames):
            windows.setdefault(window, []).append(layer)
    for (start, stop, *keys), layers in windows.items():
        keyed = torch.stack([torch.stack([known[layer][key] for layer in layers]) for key in keys])
        fused = _fuse(keyed[:, :, 0].cpu(), flow(start, stop), [key - start for key in keys])
        soft = 0.5 + _STEEPNESS * (fused - threshold)
        inner = [frame for frame in range(start, stop) if frame not in keys]
        for row, layer in enumerate(layers):
            masks[layer, inner] = mask_to_bytes(soft[[frame - start for frame in inner], row, None])
    return masks


def _windows(keys: Sequence[int], frames: int) -> list[tuple[int, ...]]:
    """Start, stop and key frames of the pieces between key frames, and of those before the first and after the last."""
    pieces = [(one, two + 1, one, two) for one, two in pairwise(keys) if two > one + 1]
    before = [(0, keys[0] + 1, keys[0])] if keys[0] > 0 else []
    after = [(keys[-1], frames, keys[-1])] if keys[-1] < frames - 1 else []
    return [*before, *pieces, *after]


def _fuse(
    keyed: Float[Tensor, "key layer height width"], flow: ClipFlow, keys: Sequence[int]
) -> Float[Tensor, "frame layer height width"]:
    """What the masks of one or two key frames say about all frames of a window, averaged."""
    pairs, _, height, width = flow.forward.shape
    centres = pixel_centres(height, width, device=flow.forward.device)
    number = torch.arange(pairs + 1, device=centres.device)
    total, weights = torch.zeros(()), torch.zeros(())
    for mask, key in zip(keyed.to(centres.device), keys, strict=True):
        chain = chain_flow(flow, key)
        places = centres + chain.displacement.movedim(1, -1) / centres.new_tensor([width, height])
        # Beyond the frame nothing is known to be inside.
        answer = F.grid_sample(mask.expand(pairs + 1, -1, -1, -1), 2 * places - 1, align_corners=False)
        nearness = 1 - (number - key).abs() / (pairs + 1)
        weight = (nearness.view(-1, 1, 1) * chain.valid.float().clamp(min=_DISTRUSTED))[:, None]
        total, weights = total + weight * answer, weights + weight
    return (total / weights).cpu()
