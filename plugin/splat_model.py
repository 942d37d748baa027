"""splatfacto as a scene that can be edited: exact checkpoints, per-Gaussian votes, a region that alone may change.

The loss is splatfacto's own, L1 with SSIM, while reconstructing and while editing, as in Instruct-GS2GS
(github.com/cvachha/instruct-gs2gs). Nothing is fetched: its LPIPS score is not built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.models.base_model import Model
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from torch import Tensor

from ..editors import InputError
from .model import without_lpips
from .splat_lineage import Lineage
from .splat_protection import FrozenGaussians, RegionStrategy
from .splat_votes import GaussianVotes
from .votes import SceneVotes

INSIDE = 0.5
"""Share of the votes from which on a Gaussian belongs to the region."""
TRAINED = 30000
"""The step that splatfacto takes a checkpoint to be of when it is only to be rendered."""


@dataclass
class MaskeditSplatModelConfig(SplatfactoModelConfig):
    """splatfacto, with the same options."""

    _target: type = field(default_factory=lambda: MaskeditSplatModel)


class MaskeditSplatModel(SplatfactoModel):
    """splatfacto that can be edited; see `SceneModel`."""

    config: MaskeditSplatModelConfig
    strategy: RegionStrategy

    def populate_modules(self) -> None:
        """Build splatfacto without its LPIPS metric, whose weights would be fetched for every render."""
        with without_lpips():
            super().populate_modules()
        self.lpips = _no_score
        self.strategy = RegionStrategy.like(self.strategy)
        self.is_editing = False
        self._forget_training()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "MaskeditSplatModel":
        """Move to another device, with the lineage: nerfstudio builds a model in main memory and moves it then."""
        super()._apply(fn, recurse)
        self.lineage.to(self.means.device)
        return self

    def _forget_training(self) -> None:
        self.strategy_state = self.strategy.initialize_state(scene_scale=1.0)
        self.lineage = Lineage(self.num_points, self.means.device)
        self._region: Tensor | None = None
        self._frozen: FrozenGaussians | None = None

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Take over weights with their own number of Gaussians.

        splatfacto makes new parameters here, which the optimisers of a run that goes on would know nothing of; these
        keep their identity.
        """
        self.step = TRAINED
        # Older versions of splatfacto had the Gaussians' tensors among their own attributes.
        state_dict = {f"gauss_params.{n}" if n in self.gauss_params else n: v for n, v in state_dict.items()}
        count = len(state_dict["gauss_params.means"])
        for parameter in self.gauss_params.values():
            _resize(parameter, count)
        # What the last step drew belongs to other Gaussians.
        self.info = {}
        self._forget_training()
        return Model.load_state_dict(self, state_dict, *args, **kwargs)

    def set_editing(self, editing: bool) -> None:
        """Note whether photos are edited; the loss is the same."""
        self.is_editing = editing

    def load_perceptual(self) -> None:
        """Nothing: the loss needs no network."""

    def training_state(self) -> dict[str, Any]:
        """What densification has seen, who descends from whom and where the scene may change."""
        return {"strategy": dict(self.strategy_state), "lineage": self.lineage.state(), "region": self._region}

    def restore_training_state(self, step: int, state: dict[str, Any]) -> None:
        """Set what densification remembers to its state after a step."""
        self._forget_training()
        self.step = step
        self.strategy_state |= {name: self._here(value) for name, value in state.get("strategy", {}).items()}
        if "lineage" in state:
            self.lineage.restore(state["lineage"])
        self._region = self._here(state.get("region"))

    def _here(self, value: Any) -> Any:
        return value.to(self.means.device) if isinstance(value, Tensor) else value

    def surface_points(self, camera: Cameras, outputs: dict[str, Tensor]) -> Float[Tensor, "rows columns 3"]:
        """Where each pixel's ray meets the scene: at the expected depth of its Gaussians; NaN where there are none."""
        rays = camera.generate_rays(camera_indices=0, keep_shape=True)
        # splatfacto's depth is along the camera's axis, and directions have length 1.
        distance = outputs["depth"] * rays.metadata["directions_norm"]
        points = rays.origins + rays.directions * distance
        return torch.where(outputs["accumulation"] > 0, points, torch.nan)

    def make_votes(self) -> SceneVotes:
        """Empty votes about this scene."""
        return GaussianVotes(self)

    def protect(self, votes: SceneVotes | None) -> None:
        """Let only those Gaussians change that most votes were for, while editing; None = all.

        Raises:
            InputError: if the votes are about another kind of scene.
        """
        if votes is not None and not isinstance(votes, GaussianVotes):
            raise InputError(f"expected votes of Gaussians, got {type(votes).__name__}: take them from make_votes()")
        self._region = None if votes is None else votes.share() >= INSIDE
        self._frozen = None
        self._freeze()

    def _freeze(self) -> None:
        """Remember what must not change, once there are optimisers."""
        optimizers = getattr(self, "optimizers", None)
        if self._region is not None and self._frozen is None and optimizers is not None:
            self._frozen = FrozenGaussians(self.gauss_params, optimizers, self._region)

    def step_cb(self, optimizers: Optimizers, step: int) -> None:
        """Before a training step."""
        super().step_cb(optimizers, step)
        self._freeze()

    def step_post_backward(self, step: int) -> None:
        """After a training step: densify and cull, and put back what must not change."""
        frozen = self._frozen if self.is_editing else None
        region = self._region if frozen is not None else None
        rows = self.strategy.refine(
            self.gauss_params, self.optimizers, self.strategy_state, region, step=step, info=self.info
        )
        if rows is not None:
            self.lineage.follow(rows)
            self._region = None if self._region is None else self._region[rows]
        if frozen is not None and self._region is not None:
            frozen.put_back(self.gauss_params, self.optimizers, self._region)

    def get_image_metrics_and_images(self, outputs: Any, batch: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
        """splatfacto's evaluation, without the LPIPS score."""
        metrics, images = super().get_image_metrics_and_images(outputs, batch)
        return {name: value for name, value in metrics.items() if "lpips" not in name}, images


def _resize(parameter: Tensor, count: int) -> None:
    """Make a parameter zeros for so many Gaussians, while optimisers go on knowing it.

    The graph of the last step may still be alive, for nerfstudio's training loop holds its loss, and torch adds a
    parameter's gradient at that graph's end, where the old size is expected. It is given up only with the type.
    """
    parameter.grad = None
    fresh = parameter.data.new_zeros(count, *parameter.shape[1:])
    parameter.data = fresh.new_empty(0, dtype=torch.complex64)
    parameter.data = fresh


def _no_score(first: Tensor, second: Tensor) -> Tensor:
    """Stands for LPIPS, which is not loaded."""
    return torch.tensor(float("nan"))
