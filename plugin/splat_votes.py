"""Votes about a scene of Gaussians: each Gaussian counts what the cameras that see it have said.

A Gaussian's vote is the sum over views and pixels of its share of the pixel's colour times the mask, over the sum of
the shares alone (as in GaussianEditor, arXiv 2311.14521, section 4.1). The shares are the rasteriser's own: a rendered
channel is linear in the Gaussians' values of it, so the gradient of sum(mask * render) with respect to those values is
the wanted sum, in one backward pass and without an approximation.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models import splatfacto
from torch import Tensor

from ..editors import InputError
from .splat_lineage import Lineage


@runtime_checkable
class Gaussians(Protocol):
    """What votes need of a model."""

    means: Any
    quats: Any
    scales: Any
    opacities: Any
    config: Any
    lineage: Lineage


def rasterize_values(
    model: Gaussians, camera: Cameras, values: Float[Tensor, "gaussians channels"]
) -> Float[Tensor, "rows columns channels"]:
    """Render values of the Gaussians as a camera sees them, at its own size; differentiable in the values alone."""
    device = model.means.device
    camera = camera.to(device)
    # Half precision is for training; votes should not depend on it.
    with torch.autocast(device_type=device.type, enabled=False):
        # The module is asked at each call, so that one place decides which rasteriser all of splatfacto uses.
        render, _, _ = splatfacto.rasterization(
            means=model.means.detach(),
            quats=model.quats.detach(),
            scales=model.scales.detach().exp(),
            opacities=model.opacities.detach().sigmoid().squeeze(-1),
            colors=values,
            viewmats=splatfacto.get_viewmat(camera.camera_to_worlds),
            Ks=camera.get_intrinsics_matrices().to(device),
            width=int(camera.width),
            height=int(camera.height),
            packed=False,
            near_plane=0.01,
            far_plane=1e10,
            render_mode="RGB",
            rasterize_mode=model.config.rasterize_mode,
        )
    return render[0]


class GaussianVotes:
    """Votes of the Gaussians of a model; those that are born later inherit the votes of their parents.

    Args:
        model: the scene.
    """

    def __init__(self, model: Gaussians) -> None:
        self._model = model
        self._numbers: Tensor = model.lineage.numbers
        self._yes = torch.zeros(len(self._numbers), device=model.means.device)
        self._all = torch.zeros_like(self._yes)

    def add(
        self,
        camera: Cameras,
        mask: Float[Tensor, "rows columns"],
        *,
        weight: float | Float[Tensor, "rows columns"] = 1.0,
    ) -> None:
        """Let a camera vote; see `SceneVotes`.

        Raises:
            InputError: if the mask is not of the camera's size.
        """
        size = (int(camera.height), int(camera.width))
        if tuple(mask.shape) != size:
            raise InputError(
                f"expected a mask of {size[0]}x{size[1]} pixels, as the camera has, got {tuple(mask.shape)}"
            )
        self._keep_up()
        worth = weight.to(self._yes) if isinstance(weight, Tensor) else torch.full_like(mask, weight).to(self._yes)
        # One channel for those who say yes and one for all: both sums come from one backward pass.
        with torch.enable_grad():
            values = torch.zeros(len(self._yes), 2, device=self._yes.device, requires_grad=True)
            render = rasterize_values(self._model, camera, values)
            total = (render * torch.stack([worth * mask.to(worth), worth], dim=-1)).sum()
            (shares,) = torch.autograd.grad(total, values)
        self._yes += shares[:, 0]
        self._all += shares[:, 1]

    @torch.no_grad()
    def project(self, camera: Cameras) -> Float[Tensor, "rows columns"]:
        """The share of yes as a camera sees it; see `SceneVotes`."""
        return rasterize_values(self._model, camera, self.share()[:, None])[..., 0].clamp(0, 1)

    def share(self) -> Float[Tensor, " gaussians"]:
        """The share of yes of each Gaussian; 0 where nobody voted."""
        self._keep_up()
        return torch.where(self._all > 0, self._yes / self._all, 0.0)

    def state(self) -> dict[str, Tensor]:
        """The votes and whose they are."""
        self._keep_up()
        return {"numbers": self._numbers.cpu(), "yes": self._yes.cpu(), "all": self._all.cpu()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over stored votes, also those of a time with other Gaussians."""
        self._numbers = state["numbers"].to(self._yes.device)
        self._yes, self._all = (state[name].to(self._yes) for name in ("yes", "all"))
        self._keep_up()

    def _keep_up(self) -> None:
        """Hand the votes to the Gaussians of now."""
        numbers = self._model.lineage.numbers
        if numbers is self._numbers:
            return
        rows = self._model.lineage.rows_in(self._numbers)
        # A child of two would count its parent's votes twice; only shares are read, so that does no harm.
        self._yes, self._all = (
            torch.where(rows < 0, 0.0, votes[rows.clamp_min(0)]) for votes in (self._yes, self._all)
        )
        self._numbers = numbers
