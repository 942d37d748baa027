"""The one inversion loop: from clean latents back to the noise that DDIM would have come from."""

import torch
from jaxtyping import Float
from torch import Tensor

from .backbone import Backbone, Conditioning
from .guidance import Guidance
from .schedule import DDIMSchedule
from .types import Latents


@torch.no_grad()
def invert(
    backbone: Backbone,
    latents: Latents,
    *,
    conditioning: Conditioning,
    guidance: Guidance,
    schedule: DDIMSchedule,
) -> Float[Tensor, "points batch channels latent_height latent_width"]:
    """DDIM inversion (arXiv 2010.02502, section 4.3), with the prediction at the earlier, cleaner point of each step.

    Args:
        backbone: the networks.
        latents: clean, scaled.
        conditioning: conditions of the branches that the guidance names.
        guidance: combines the branches; a scale of 1 inverts faithfully.
        schedule: the denoising schedule to invert; visited backwards.

    Returns:
        The trajectory: row 0 is the clean latents, row i the latents after i steps, the last row the noisiest, which
        denoising with the same schedule starts from.
    """
    points = [latents]
    times = schedule.timesteps.flip(0)
    before = torch.cat([schedule.following[-1:], times[:-1]])
    for step in range(schedule.steps):
        # Clean latents have no timestep of their own; the model is asked at the lowest one it knows.
        noise_pred = backbone.predict(points[-1], before[step].clamp(min=0), conditioning)
        combined = guidance.combine(noise_pred, step)
        points.append(schedule.move(combined, points[-1], before[step], times[step]))
    return torch.stack(points)
