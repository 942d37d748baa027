"""nerfacto with the losses of the iterative dataset update, and without LPIPS unless its loss is on.

While a scene is edited the photos disagree with each other, so the colour loss is L1 with LPIPS on patches
(Instruct-NeRF2NeRF, arXiv 2303.12789); while it is reconstructed it is nerfacto's own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from torch import Tensor, nn

from ..editors import InputError, ModelError
from .lift_options import ProtectConfig
from .protect import FieldHold, Held, WatchedField, watched_fields
from .votes import RayWeights, RememberedRays, SceneVotes, VoxelVotes

Perceptual = Callable[[Float[Tensor, "patches 3 size size"], Float[Tensor, "patches 3 size size"]], Tensor]
"""Distance of patches in [0, 1]; any shape, its mean is the loss."""


@dataclass
class MaskeditModelConfig(NerfactoModelConfig):
    """nerfacto, with the losses of editing."""

    _target: type = field(default_factory=lambda: MaskeditModel)
    eval_num_rays_per_chunk: int = 1 << 15
    """Rays rendered at once."""
    average_init_density: float = 0.01
    """Density before training, as in the method nerfacto."""
    use_lpips: bool = True
    """Whether patches are compared with LPIPS while editing; needs AlexNet's weights, which are fetched once."""
    lpips_loss_mult: float = 1.0
    """Weight of LPIPS beside L1."""


class MaskeditModel(NerfactoModel):
    """nerfacto that can switch from reconstructing to editing."""

    config: MaskeditModelConfig

    def populate_modules(self) -> None:
        """Build nerfacto without its LPIPS metric, whose weights would be fetched for every render."""
        with without_lpips(), watched_fields():
            super().populate_modules()
        self._reconstruction_loss = self.rgb_loss
        self._holder: dict[str, Any] = {}
        self.is_editing = False
        self.patch_size = 1
        self.vote_resolution = 128
        self.protection = ProtectConfig()

    @property
    def lpips(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The evaluation metric; not a number where LPIPS was not loaded."""
        perceptual: Perceptual | None = self._holder.get("perceptual")
        if perceptual is None:
            return lambda first, second: torch.tensor(float("nan"))
        return lambda first, second: perceptual(first.clamp(0, 1), second.clamp(0, 1)).mean()

    @lpips.setter
    def lpips(self, metric: object) -> None:
        """nerfacto sets its metric here, which is not built."""

    def use_perceptual(self, perceptual: Perceptual) -> None:
        """Compare patches with a network, which is kept out of the weights and the checkpoints."""
        self._holder["perceptual"] = perceptual

    def load_perceptual(self) -> None:
        """Load LPIPS if its loss is on.

        Raises:
            ModelError: if its weights are not there and can't be fetched.
        """
        if self.config.use_lpips and "perceptual" not in self._holder:
            self.use_perceptual(_load_lpips(self.device))

    def set_editing(self, editing: bool) -> None:
        """Choose the losses."""
        self.is_editing = editing
        self.rgb_loss = nn.L1Loss() if editing else self._reconstruction_loss

    def training_state(self) -> dict[str, Any]:
        """Steps since the proposal networks were last updated: the only training state outside the weights."""
        return {"sampler_age": int(self.proposal_sampler._steps_since_update)}

    def restore_training_state(self, step: int, state: dict[str, Any]) -> None:
        """Set what the proposal sampler remembers to its state after a step."""
        self.proposal_sampler._step = step
        self.proposal_sampler._steps_since_update = int(state.get("sampler_age", 0))

    def surface_points(self, camera: Cameras, outputs: dict[str, Tensor]) -> Float[Tensor, "rows columns 3"]:
        """Where each pixel's ray meets the scene: at the median of its weights."""
        rays = camera.generate_rays(camera_indices=0, keep_shape=True)
        return rays.origins + rays.directions * outputs["depth"]

    def make_votes(self) -> SceneVotes:
        """Empty votes about this scene."""
        trace = self._holder.get("rays", self.ray_weights)
        return VoxelVotes(trace, device=self.device, resolution=self.vote_resolution)

    def stay(self) -> None:
        """Promise that nothing trains this scene any more, so that its rays may be remembered."""
        self._holder["rays"] = RememberedRays(self.ray_weights)

    def forget_rays(self) -> None:
        """Free the rays that were remembered; they are traced anew when they are needed again."""
        self._holder.pop("rays", None)

    def keep_start(self, scene: "MaskeditModel") -> None:
        """Say what the scene was before the first edit, which `protect` holds on to."""
        self._holder["start"] = scene.field

    def protect(self, votes: SceneVotes | None) -> None:
        """Let the scene change, while it is edited, inside a region alone; None = everywhere.

        Raises:
            InputError: if the votes are about another kind of scene, or what it was is not known.
        """
        if votes is None:
            self._holder.pop("hold", None)
            return
        start = self._holder.pop("start", None)
        if not isinstance(votes, VoxelVotes) or not isinstance(start, WatchedField):
            raise InputError("expected votes of make_votes() after keep_start(), which says what is to be kept")
        self._holder["hold"] = FieldHold(start, votes, self.protection)

    @torch.no_grad()
    def ray_weights(self, camera: Cameras) -> Iterator[RayWeights]:
        """Where the rays of a camera get their colour from, some rays at a time; colours are not computed."""
        # Cameras that the user drew in come from a file.
        rays = camera.to(self.device).generate_rays(camera_indices=0, keep_shape=True).flatten()
        for first in range(0, len(rays), self.config.eval_num_rays_per_chunk):
            yield self._weigh(rays[first : first + self.config.eval_num_rays_per_chunk])

    def _weigh(self, rays: RayBundle) -> RayWeights:
        age, was_training = self.proposal_sampler._steps_since_update, self.training
        self.eval()
        try:
            # Half precision is for training; votes should not depend on it.
            with torch.autocast(device_type=torch.device(self.device).type, enabled=False):
                rays = rays if self.collider is None else self.collider(rays)
                samples, _, _ = self.proposal_sampler(rays, density_fns=self.density_fns)
                density, _ = self.field.get_density(samples)
                weights = samples.get_weights(density)[..., 0]
        finally:
            self.train(was_training)
            self.proposal_sampler._steps_since_update = age
        return RayWeights(points=samples.frustums.get_positions().float(), weights=weights.float())

    def get_outputs(self, ray_bundle: Any) -> dict[str, Any]:
        """Render rays; a render that is not for training leaves no trace in the sampler."""
        age = self.proposal_sampler._steps_since_update
        hold: FieldHold | None = self._holder.get("hold") if self.training and self.is_editing else None
        field: Any = self.field
        field.watch = hold is not None
        outputs = super().get_outputs(ray_bundle)
        if not self.training:
            self.proposal_sampler._steps_since_update = age
        if hold is not None and field.seen is not None:
            held = hold.compare(*field.seen)
            field.seen = None
            _hold(outputs, held)
        return outputs

    def get_loss_dict(self, outputs: Any, batch: Any, metrics_dict: Any = None) -> dict[str, Tensor]:
        """nerfacto's losses, and LPIPS while editing."""
        losses = super().get_loss_dict(outputs, batch, metrics_dict)
        if "protect_loss" in outputs:
            losses["protect_loss"] = outputs["protect_loss"]
        if self.training and self.is_editing and self.config.use_lpips:
            pred = rays_to_patches(outputs["rgb"].float(), self.patch_size)
            truth = rays_to_patches(batch["image"].to(self.device), self.patch_size)
            distance = self._holder["perceptual"](pred.clamp(0, 1), truth.clamp(0, 1)).mean()
            losses["lpips_loss"] = self.config.lpips_loss_mult * distance
        return losses

    def get_image_metrics_and_images(self, outputs: Any, batch: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
        """nerfacto's evaluation, without the LPIPS score where LPIPS is not loaded."""
        metrics, images = super().get_image_metrics_and_images(outputs, batch)
        if "perceptual" not in self._holder:
            metrics.pop("lpips", None)
        return metrics, images


def _hold(outputs: dict[str, Any], held: Held) -> None:
    """Let rays that have nothing to do with the region teach less, and hand on the loss that holds the rest.

    The colours stay what they are, so every loss that is made of them, of pixels or of patches, is weighed alike.
    """
    rgb = outputs["rgb"]
    outputs["rgb"] = held.trust * rgb + (1 - held.trust) * rgb.detach()
    outputs["protect_loss"] = held.loss


def rays_to_patches(colors: Float[Tensor, "rays 3"], size: int) -> Float[Tensor, "patches 3 size size"]:
    """Colours of rays that were sampled patch by patch, as patches."""
    return colors.view(-1, size, size, 3).permute(0, 3, 1, 2)


class _NoMetric:
    """Stands where nerfacto builds LPIPS."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass


@contextmanager
def without_lpips() -> Iterator[None]:
    """Let nerfstudio's models be built without their LPIPS metric, whose weights they would fetch."""
    from torchmetrics.image import lpip

    # They import the class inside the function that builds them, so this reaches that one import alone.
    real = lpip.LearnedPerceptualImagePatchSimilarity
    lpip.LearnedPerceptualImagePatchSimilarity = _NoMetric  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        lpip.LearnedPerceptualImagePatchSimilarity = real  # type: ignore[misc]


def _load_lpips(device: torch.device) -> Perceptual:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        net = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).net
    except Exception as error:  # Fetching fails with errors of sockets, TLS, HTTP and damaged files.
        raise ModelError(
            f"LPIPS needs AlexNet's weights, which could not be loaded ({error}): pass --pipeline.model.use-lpips "
            "False, or put alexnet-owt-7be5be79.pth into the folder checkpoints of torch.hub.get_dir()"
        ) from error
    net = net.to(device).requires_grad_(False).eval()
    return lambda first, second: net(first, second, normalize=True)
