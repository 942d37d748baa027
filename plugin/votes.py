"""Where in a scene something was seen: cameras vote with their masks, and any camera can ask for the outcome.

A mask that is found in one photo is often wrong, or missing. Every pixel that has a mask votes for what its ray meets,
in the shares in which the scene's own rendering weighs it; what is seen through glass, or half covered, gets its share.
The outcome is a property of places, so it can be rendered from any camera: the views of the working set, those that
were held out, and the viewer's.

A radiance field keeps its votes in a grid over contracted space (`SceneContraction`, Mip-NeRF 360, arXiv 2111.12077,
equation 10, with the largest coordinate for the norm, as nerfacto has it), in which unbounded scenes have an end. On a
GPU its sums are made in no fixed order, so two counts of the same votes agree but for their last bits.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ..editors import InputError

PRIOR = 3.0
"""Rays' worth of votes that a cell takes from its surroundings: a cell that few rays met says little by itself."""
LOUDEST = 8.0
"""Most votes of a cell that count for its surroundings."""
COARSENINGS = 3
"""How often a cell's surroundings double."""


@dataclass(frozen=True, kw_only=True)
class RayWeights:
    """How much of each pixel's colour comes from where, for some pixels of a picture."""

    points: Float[Tensor, "rays samples 3"]
    """In the scene's own coordinates."""
    weights: Float[Tensor, "rays samples"]
    """Share of each sample; of one ray they add up to at most 1."""


TraceRays = Callable[[Cameras], Iterator[RayWeights]]
"""The rays of a camera row by row, some at a time, without gradients; always the same for the same scene."""


@runtime_checkable
class VotedScene(Protocol):
    """A scene that can be voted about."""

    def make_votes(self) -> "SceneVotes":
        """Empty votes about it."""
        ...


@runtime_checkable
class SceneVotes(Protocol):
    """Where in a scene something was seen."""

    def add(
        self,
        camera: Cameras,
        mask: Float[Tensor, "rows columns"],
        *,
        weight: float | Float[Tensor, "rows columns"] = 1.0,
    ) -> None:
        """Let a camera vote.

        Args:
            camera: one, of any size and pose.
            mask: for each of its pixels what it votes, 1 = yes, 0 = no.
            weight: of all pixels or of each; at least 0. A pixel of weight 0 abstains.
        """
        ...

    def project(self, camera: Cameras) -> Float[Tensor, "rows columns"]:
        """The share of the votes that said yes, in [0, 1], as a camera sees it; 0 where nobody voted."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The votes, for a file."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the votes of a file."""
        ...


class RememberedRays:
    """Keeps the rays of cameras that are asked about more than once, as far as a budget goes.

    Args:
        trace: gives a camera's rays, of a scene that nothing changes.
        budget: bytes that may be kept.
    """

    def __init__(self, trace: TraceRays, budget: int = 1 << 30) -> None:
        self._trace, self._left = trace, budget
        self._kept: dict[int, tuple[Cameras, list[RayWeights]]] = {}

    def __call__(self, camera: Cameras) -> Iterator[RayWeights]:
        """The rays of a camera; it is known by the object, which must not be changed."""
        if id(camera) in self._kept:
            yield from self._kept[id(camera)][1]
            return
        parts: list[RayWeights] = []
        size = 0
        for rays in self._trace(camera):
            size += 4 * (rays.points.numel() + rays.weights.numel())
            if size <= self._left:
                parts.append(rays)
            yield rays
        if size <= self._left:
            self._left -= size
            self._kept[id(camera)] = (camera, parts)


class VoxelVotes:
    """Votes in a grid over the whole of space.

    Args:
        trace: gives a camera's rays.
        device: where the grid lies.
        resolution: cells along each axis, a multiple of 8. Half of them cover the box from -1 to 1.

    Raises:
        InputError: for another number of cells.
    """

    def __init__(
        self,
        trace: TraceRays,
        *,
        device: torch.device | str,
        resolution: int = 128,
    ) -> None:
        least = 2**COARSENINGS
        if resolution < least or resolution % least:
            raise InputError(f"expected a grid of a multiple of {least} cells along each axis, got {resolution}")
        self._trace, self.resolution = trace, resolution
        self._yes = torch.zeros(resolution**3, device=device)
        self._all = torch.zeros(resolution**3, device=device)
        self._share: Float[Tensor, " cells"] | None = None

    @torch.no_grad()
    def add(
        self,
        camera: Cameras,
        mask: Float[Tensor, "rows columns"],
        *,
        weight: float | Float[Tensor, "rows columns"] = 1.0,
    ) -> None:
        """Let a camera vote; see `SceneVotes`."""
        _check_size(camera, mask)
        mask = mask.to(self._yes)
        weight = weight.to(mask) if isinstance(weight, Tensor) else torch.full_like(mask, weight)
        wish, worth, done = mask.flatten(), weight.flatten(), 0
        self._share = None
        for rays in self._trace(camera):
            chosen = slice(done, done + len(rays.weights))
            done += len(rays.weights)
            votes = worth[chosen, None] * rays.weights
            cells, shares = corners(rays.points.reshape(-1, 3).to(mask), self.resolution)
            every = (shares * votes.reshape(-1, 1)).flatten()
            said_yes = (shares * (wish[chosen, None] * votes).reshape(-1, 1)).flatten()
            self._all.index_add_(0, cells.flatten(), every)
            self._yes.index_add_(0, cells.flatten(), said_yes)

    @torch.no_grad()
    def project(self, camera: Cameras) -> Float[Tensor, "rows columns"]:
        """The share of yes as a camera sees it; see `SceneVotes`."""
        parts = [
            (rays.weights * self.share_at(rays.points.reshape(-1, 3)).view_as(rays.weights)).sum(dim=-1)
            for rays in self._trace(camera)
        ]
        return torch.cat(parts).view(int(camera.height), int(camera.width)).clamp(0, 1)

    @torch.no_grad()
    def share_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """The share of yes at some places, in the scene's coordinates; 0 where nobody voted far and wide."""
        if self._share is None:
            self._share = self._count()
        cells, shares = corners(points.to(self._share), self.resolution)
        return (shares * self._share[cells]).sum(dim=-1)

    @torch.no_grad()
    def region(self, least: float, margin: int) -> Float[Tensor, " cells"]:
        """Which cells belong to a region: 1 or 0 for each, to be interpolated with `corners`.

        Args:
            least: share of yes from which a cell belongs to it, in (0, 1].
            margin: cells around it that belong to it as well.
        """
        shape = (1, 1, *(3 * [self.resolution]))
        inside = (self._count().view(shape) >= least).to(self._yes)
        return F.max_pool3d(inside, 2 * margin + 1, stride=1, padding=margin).flatten() if margin else inside.flatten()

    def state(self) -> dict[str, Tensor]:
        """The votes of the cells."""
        return {"yes": self._yes.cpu(), "all": self._all.cpu()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over stored votes and their resolution."""
        self._yes, self._all = (state[name].to(self._yes) for name in ("yes", "all"))
        self._share, self.resolution = None, round(len(self._yes) ** (1 / 3))

    def _count(self) -> Float[Tensor, " cells"]:
        """The share of yes in each cell, drawn towards that of its surroundings, from coarse to fine.

        A photo has too few rays to meet every cell of a surface, and one wrong mask would decide where it alone does.
        """
        levels = [torch.stack([self._yes, self._all]).view(1, 2, *(3 * [self.resolution]))]
        # A cell with many votes, such as one that a user marked, speaks for itself and no louder for its surroundings.
        levels.append(8 * F.avg_pool3d(levels[0] / (1 + levels[0][:, 1:] / LOUDEST), 2))
        for _ in range(COARSENINGS - 1):
            levels.append(8 * F.avg_pool3d(levels[-1], 2))
        share = torch.zeros_like(levels[-1][:, :1])
        for level in reversed(levels):
            if share.shape[-1] < level.shape[-1]:
                share = F.interpolate(share, scale_factor=2, mode="trilinear", align_corners=False)
            share = (level[:, :1] + PRIOR * share) / (level[:, 1:] + PRIOR)
        return share.flatten()


def corners(
    points: Float[Tensor, "points 3"], resolution: int
) -> tuple[Int[Tensor, "points 8"], Float[Tensor, "points 8"]]:
    """The eight cells around each point of a scene, and the share of each by trilinear interpolation."""
    place = (contract(points) + 2) / 4
    place = (place * resolution - 0.5).clamp(0, resolution - 1)
    low = place.floor().clamp_max(resolution - 2)
    share = (place - low)[:, None]
    step = corner_steps(points.device)
    index = low.long()[:, None] + step
    shares = torch.where(step.bool(), share, 1 - share).prod(dim=-1)
    return (index[..., 0] * resolution + index[..., 1]) * resolution + index[..., 2], shares


@cache
def corner_steps(device: torch.device) -> Int[Tensor, "8 3"]:
    """From a cell to the corners of a cube of two; made once for each device, as every copy to a GPU is waited for."""
    return torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], device=device)


def contract(points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
    """All of space in the box from -2 to 2; what lies in the box from -1 to 1 stays where it is.

    Source: Mip-NeRF 360, arXiv 2111.12077, equation 10, with the largest coordinate for the norm.
    """
    size = points.abs().amax(dim=-1, keepdim=True)
    return torch.where(size <= 1, points, (2 - 1 / size.clamp_min(1)) * points / size.clamp_min(1))


def _check_size(camera: Cameras, mask: Float[Tensor, "rows columns"]) -> None:
    size = (int(camera.height), int(camera.width))
    if tuple(mask.shape) != size:
        raise InputError(f"expected a mask of {size[0]}x{size[1]} pixels, as the camera has, got {tuple(mask.shape)}")
