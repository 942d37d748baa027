"""The one inversion loop: from clean latents back to the noise that DDIM would have come from."""

from typing import Literal

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
    ask_at: Literal["target", "start"] = "target",
) -> Float[Tensor, "points batch channels latent_height latent_width"]:
    """DDIM inversion (arXiv 2010.02502, section 4.3).

    Args:
        backbone: the networks.
        latents: clean, scaled.
        conditioning: conditions of the branches that the guidance names.
        guidance: combines the branches; a scale of 1 inverts faithfully.
        schedule: the denoising schedule to invert; visited backwards.
        ask_at: the timestep the UNet is told for the latents where a step begins: that of its noisier end, as DiffEdit
            and InstructEdit do (denoising asks there too), or that of the latents themselves, as DDIM's paper has it.

    Returns:
        The trajectory: row 0 is the clean latents, row i the latents after i steps, the last row the noisiest, which
        denoising with the same schedule starts from.
    """
    points = [latents]
    times = schedule.timesteps.flip(0)
    before = torch.cat([schedule.following[-1:], times[:-1]])
    for step in range(schedule.steps):
        # Clean latents have no timestep of their own; the model is asked at the lowest one it knows.
        asked = times[step] if ask_at == "target" else before[step].clamp(min=0)
        noise_pred = backbone.predict(points[-1], asked, conditioning)
        combined = guidance.combine(noise_pred, step, points[-1])
        points.append(schedule.move(combined, points[-1], before[step], times[step]))
    return torch.stack(points)
