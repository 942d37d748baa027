"""Keeping the Gaussians outside a region exactly as they are while the others train.

A gradient of zero is not enough: Adam moves on by its momentum, densification adds and removes, and splatfacto lowers
every opacity from time to time. So the Gaussians outside, and what the optimisers remember of them, are put back after
each step; the sequence of those outside never changes, because nothing outside is copied, split or removed.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy
from gsplat.strategy.ops import remove
from jaxtyping import Bool, Int
from torch import Tensor, nn

Region = Bool[Tensor, " gaussians"]
ROWS, REGION = "rows", "region"


class RegionStrategy(DefaultStrategy):
    """gsplat's strategy of densifying and culling, inside a region alone where the running state names one.

    gsplat hands every tensor of the running state on to copies and halves, so the region and the rows where the
    Gaussians came from travel in it.
    """

    @classmethod
    def like(cls, other: DefaultStrategy) -> "RegionStrategy":
        """The same settings."""
        return cls(**{item.name: getattr(other, item.name) for item in fields(other)})

    def refine(
        self,
        params: Any,
        optimizers: Any,
        state: dict[str, Any],
        region: Region | None,
        *,
        step: int,
        info: dict[str, Any],
    ) -> Int[Tensor, " descendants"] | None:
        """Densify and cull if it is time to.

        Args:
            params: the Gaussians, changed in place.
            optimizers: theirs, changed in place.
            state: the running state, changed in place.
            region: where; None = everywhere.
            step: training step.
            info: of the last rasterisation.

        Returns:
            For each Gaussian of now the one it was before; None = nothing was copied, split or removed.
        """
        rows = torch.arange(len(params["means"]), device=params["means"].device)
        state[ROWS] = rows
        if region is not None:
            state[REGION] = region
        try:
            self.step_post_backward(params, optimizers, state, step, info, packed=False)
            return None if state[ROWS] is rows else state[ROWS]
        finally:
            state.pop(ROWS)
            state.pop(REGION, None)

    def _update_state(self, params: Any, state: dict[str, Any], info: dict[str, Any], packed: bool = False) -> None:
        super()._update_state(params, state, info, packed=packed)
        if REGION in state:
            # What is never seen to move and has no size is neither copied nor split.
            for name in ("grad2d", "radii"):
                if state.get(name) is not None:
                    state[name].masked_fill_(~state[REGION], 0)

    @torch.no_grad()
    def _prune_gs(self, params: Any, optimizers: Any, state: dict[str, Any], step: int) -> int:
        if REGION not in state:
            return super()._prune_gs(params, optimizers, state, step)
        is_pruned = params["opacities"].flatten().sigmoid() < self.prune_opa
        if step > self.reset_every:
            is_pruned |= params["scales"].exp().amax(dim=-1) > self.prune_scale3d * state["scene_scale"]
            if step < self.refine_scale2d_stop_iter:
                is_pruned |= state["radii"] > self.prune_scale2d
        is_pruned &= state[REGION]
        count = int(is_pruned.sum())
        if count:
            remove(params=params, optimizers=optimizers, state=state, mask=is_pruned)
        return count


class FrozenGaussians:
    """The Gaussians outside a region as they were, with their optimisers' moments.

    Args:
        params: the Gaussians by name of their tensors.
        optimizers: theirs.
        region: of those that may change; a tensor that is not changed in place.
    """

    def __init__(
        self, params: nn.ParameterDict, optimizers: Mapping[str, torch.optim.Optimizer], region: Region
    ) -> None:
        self._region, self._rows = region, _outside(region)
        self._values = {name: value.detach()[self._rows] for name, value in params.items()}
        self._moments = {
            name: {key: moment[self._rows] for key, moment in _moments(optimizers[name], value).items()}
            for name, value in params.items()
        }

    @torch.no_grad()
    def put_back(
        self, params: nn.ParameterDict, optimizers: Mapping[str, torch.optim.Optimizer], region: Region
    ) -> None:
        """Undo what was done outside the region.

        Args:
            params: the Gaussians of now.
            optimizers: theirs.
            region: as it is now; the tensor of the last time if it has not changed.
        """
        if region is not self._region:
            # Counting rows makes the program wait for a GPU, so it is done when there are other rows, not each step.
            self._region, self._rows = region, _outside(region)
        for name, value in params.items():
            value.data.index_copy_(0, self._rows, self._values[name])
            for key, moment in _moments(optimizers[name], value).items():
                # An optimiser that had taken no step remembered nothing, which is to say zeros.
                kept = self._moments[name].get(key)
                if kept is None:
                    moment.index_fill_(0, self._rows, 0)
                else:
                    moment.index_copy_(0, self._rows, kept)


def _outside(region: Region) -> Int[Tensor, " outside"]:
    """Rows of the Gaussians that may not change."""
    return torch.where(~region)[0]


def _moments(optimizer: torch.optim.Optimizer, value: Tensor) -> dict[str, Tensor]:
    """What an optimiser remembers of each Gaussian."""
    state = optimizer.state.get(value, {})
    return {key: each for key, each in state.items() if isinstance(each, Tensor) and each.shape == value.shape}
