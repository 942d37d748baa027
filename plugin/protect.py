"""Keeping a radiance field as it was outside a region while it trains on edited photos.

The photos alone do not keep it: outside the masks they equal the originals, but the field learns from all of them at
once, and a change within the region leaks out through shared weights, through rays that pass close by, and as haze
before the cameras. So two things are done. What a ray says about places outside counts less. And at the samples of each
ray the field is compared with a copy from before the first edit, where that copy lets the ray see:

    loss = sum over samples outside of T0 |alpha - alpha0| + T0 alpha0 |colour - colour0|

with alpha = 1 - exp(-sigma delta) and T0 the copy's transmittance. All of it is bounded, so that no sample can outweigh
an edit, and hidden places, which nobody knows, are left free: what was behind a removed object may appear.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.nerfacto_field import NerfactoField
from torch import Tensor

from .lift_options import ProtectConfig
from .votes import VoxelVotes, corners

INSIDE = 0.5
"""Share of votes from which a place belongs to the region."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What protection has to say about some rays."""

    loss: Float[Tensor, ""]
    """How far the field has moved outside the region; the mean over rays."""
    trust: Float[Tensor, "rays 1"]
    """For each ray the weight of its photo's loss."""


class FieldHold:
    """Compares a field with its copy.

    Args:
        field: of before the first edit; it is kept, and nothing else may train it.
        votes: about the region that may change.
        config: how much.
    """

    def __init__(self, field: NerfactoField, votes: VoxelVotes, config: ProtectConfig) -> None:
        # Colours depend on the photo's own embedding while training, so the copy is asked in the same mode.
        self._field = field.requires_grad_(False).train()
        self._region = votes.region(INSIDE, config.margin)
        self._resolution, self._config = votes.resolution, config

    def compare(self, samples: RaySamples, outputs: Mapping[FieldHeadNames, Tensor]) -> Held:
        """Compare the field with the copy along some rays.

        Args:
            samples: of the rays.
            outputs: of the field that trains, at the samples.
        """
        with torch.no_grad():
            kept = self._field.forward(samples)
            points = samples.frustums.get_positions()
            cells, shares = corners(points.reshape(-1, 3).to(self._region), self._resolution)
            outside = 1 - (shares * self._region[cells]).sum(dim=-1).view(*points.shape[:-1], 1)
            alpha0 = opacity(samples, kept[FieldHeadNames.DENSITY])
            seen0 = transmittance(alpha0)
            weights = (samples.get_weights(outputs[FieldHeadNames.DENSITY]), seen0 * alpha0)
            # A ray is about the region if it meets it now or did before: a removed object is met no more.
            meets = torch.stack([(weight * (1 - outside)).sum(dim=-2) for weight in weights]).amax(dim=0)
            least = self._config.photos
            trust = least + (1 - least) * meets.clamp(0, 1)
        alpha = opacity(samples, outputs[FieldHeadNames.DENSITY])
        moved = (alpha - alpha0).abs()
        recolored = (outputs[FieldHeadNames.RGB] - kept[FieldHeadNames.RGB]).abs().mean(dim=-1, keepdim=True)
        loss = (outside * seen0 * (moved + alpha0 * recolored)).sum(dim=-2).mean()
        return Held(loss=self._config.weight * loss, trust=trust)


class WatchedField(NerfactoField):
    """nerfacto's field, which can keep what it was last asked and what it answered."""

    watch = False
    seen: tuple[RaySamples, dict[FieldHeadNames, Tensor]] | None = None

    def forward(self, ray_samples: RaySamples, compute_normals: bool = False) -> dict[FieldHeadNames, Tensor]:
        """Evaluate the field."""
        outputs = super().forward(ray_samples, compute_normals)
        self.seen = (ray_samples, outputs) if self.watch else None
        return outputs


@contextmanager
def watched_fields() -> Iterator[None]:
    """Let nerfacto build fields that can be watched; weights have the same names and shapes."""
    from nerfstudio.models import nerfacto

    real = nerfacto.NerfactoField
    nerfacto.NerfactoField = WatchedField  # type: ignore[misc]
    try:
        yield
    finally:
        nerfacto.NerfactoField = real  # type: ignore[misc]


def opacity(samples: RaySamples, density: Float[Tensor, "*rays samples 1"]) -> Float[Tensor, "*rays samples 1"]:
    """How much of the light each sample holds back: 1 - exp(-sigma delta)."""
    assert samples.deltas is not None
    return 1 - torch.exp(-samples.deltas * density)


def transmittance(alpha: Float[Tensor, "*rays samples 1"]) -> Float[Tensor, "*rays samples 1"]:
    """How much of the light reaches each sample."""
    through = torch.cumprod(1 - alpha, dim=-2)
    return torch.cat([torch.ones_like(through[..., :1, :]), through[..., :-1, :]], dim=-2)
