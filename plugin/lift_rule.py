"""From the masks that were found in some photos to one region of the scene, and back to a mask for every view.

Detectors fail in their own way in every photo: they find nothing, the neighbour, or too much around the object. What
they share is the object. So each photo votes for the places its mask covers, against those it leaves out; a photo in
which nothing was found abstains. The bound follows the share of votes that the object itself reaches, because
detectors that miss the object half of the time should not lose it everywhere. Then the photos vote again, and those
whose mask has little in common with the outcome count for little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from .lift_options import LiftConfig
from .lift_regions import MarkRegion
from .votes import SceneVotes

FOUND = 0.5
"""A mask that nowhere reaches this found nothing."""
AGREED = 0.75
"""The object's share of votes is this quantile of the shares within what was found."""
LEAST_REACHED = 0.2
"""And at least this: where photos agree on less, they agree on nothing."""
LEAST_IN_VIEW = 0.25
"""The object's share of votes in one view, as part of that in all, under which the view does not show it."""
LEAST_TRUST = 0.05
"""Agreement below which a photo counts no less."""
MARK_WEIGHT, MARK_GROWTH = 4.0, 3.0
"""Votes of a mark for each photo there is, and how much more the next one has, so that it outvotes those before."""

DrawnMark = tuple[MarkRegion, Float[Tensor, "height width"]]


@dataclass(frozen=True, kw_only=True)
class LiftedRegion:
    """What came of the votes about one instruction."""

    masks: tuple[Float[Tensor, "rows columns"], ...]
    """For each view."""
    share: float
    """Share of votes that the object reaches."""
    trust: tuple[float, ...]
    """What the vote of each photo weighed in the end; 0 = it abstained."""


def lift_masks(
    make_votes: Callable[[], SceneVotes],
    cameras: Sequence[Cameras],
    found: Sequence[Float[Tensor, "rows columns"]],
    config: LiftConfig,
    marks: Sequence[DrawnMark] = (),
) -> LiftedRegion:
    """Let the photos vote about one instruction, and give every view its mask.

    Args:
        make_votes: gives empty votes about the scene that the photos show.
        cameras: of all views.
        found: what was found in the photo of each; a mask without anything abstains.
        config: how votes are counted.
        marks: what the user drew, oldest first; each outvotes all photos and all older marks where it looks.
    """
    trust = [float(bool((mask >= FOUND).any())) for mask in found]
    # The same cameras in all rounds, because a scene remembers rays by the camera they are of.
    drawn = [(mark.camera(*pixels.shape), mark, pixels) for mark, pixels in marks]
    shares, reached = _vote(make_votes(), cameras, found, trust, drawn)
    for _ in range(config.rounds - 1):
        wholes = [share >= config.threshold * reached for share in shares]
        trust = [
            _agreement(mask, whole) if weight else 0.0 for mask, whole, weight in zip(found, wholes, trust, strict=True)
        ]
        shares, reached = _vote(make_votes(), cameras, found, trust, drawn)
    scales = [
        _reached_in_view(share, mask, reached, config.threshold) if weight else reached
        for share, mask, weight in zip(shares, found, trust, strict=True)
    ]
    masks = tuple(
        _soften(share / scale - config.threshold, config.softness) for share, scale in zip(shares, scales, strict=True)
    )
    return LiftedRegion(masks=masks, share=reached, trust=tuple(trust))


def _vote(
    votes: SceneVotes,
    cameras: Sequence[Cameras],
    found: Sequence[Float[Tensor, "rows columns"]],
    trust: Sequence[float],
    marks: Sequence[tuple[Cameras, MarkRegion, Float[Tensor, "height width"]]],
) -> tuple[list[Float[Tensor, "rows columns"]], float]:
    """The share of votes that each view sees, and that which the object reaches."""
    for camera, mask, weight in zip(cameras, found, trust, strict=True):
        if weight:
            votes.add(camera, mask, weight=weight)
    weight = MARK_WEIGHT * len(cameras)
    for camera, mark, drawn in marks:
        votes.add(camera, torch.full_like(drawn, float(mark.says_yes)), weight=weight * drawn)
        weight *= MARK_GROWTH
    shares = [votes.project(camera).cpu() for camera in cameras]
    within = torch.cat([share[mask.cpu() >= FOUND] for share, mask in zip(shares, found, strict=True)])
    alone = 1.0 if any(mark.says_yes for _, mark, _ in marks) else LEAST_REACHED
    return shares, max(float(np.quantile(within.numpy(), AGREED)) if len(within) else alone, LEAST_REACHED)


def _reached_in_view(
    share: Float[Tensor, "rows columns"], mask: Float[Tensor, "rows columns"], reached: float, threshold: float
) -> float:
    """The share that the object reaches in a view, where that is less than elsewhere and it would be lost.

    Where the scene's surface is blurred, votes are too. A photo that was outvoted gains nothing by this.
    """
    if float(share.max()) >= threshold * reached:
        return reached
    own = float(np.quantile(share[mask.cpu() >= FOUND].numpy(), AGREED))
    return own if own >= LEAST_IN_VIEW * reached else reached


def _agreement(mask: Float[Tensor, "rows columns"], whole: Bool[Tensor, "rows columns"]) -> float:
    """Squared overlap (intersection over union) of a mask with the outcome, as the weight of a photo's next vote."""
    one = mask.cpu() >= FOUND
    overlap = float((one & whole).sum()) / max(1.0, float((one | whole).sum()))
    return max(LEAST_TRUST, overlap) ** 2


def _soften(distance: Float[Tensor, "rows columns"], softness: float) -> Float[Tensor, "rows columns"]:
    """From the distance to the bound to a mask with a ramp of some width around it."""
    return (0.5 + distance / softness).clamp(0, 1) if softness else (distance >= 0).to(distance)
