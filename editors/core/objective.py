"""The diffusion loss: what every learned thing here is trained against."""

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from .errors import ModelError
from .input_features import InputFeatures, add_input_features
from .types import LatentMask, Latents, PromptEmbeds


def diffusion_loss(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    clean: Latents,
    *,
    noise: Latents,
    timesteps: Int[Tensor, " batch"],
    embeds: PromptEmbeds,
    condition: Float[Tensor, "batch condition latent_height latent_width"] | None = None,
    weight: LatentMask | None = None,
    features: InputFeatures | None = None,
) -> Float[Tensor, ""]:
    """Weighted mean squared error of a UNet's prediction (DDPM, arXiv 2006.11239, Eq. 14, or its v form).

    Args:
        unet: predicts epsilon or v, as the scheduler says.
        scheduler: gives the noise levels; not changed.
        clean: scaled latents to learn.
        noise: standard normal.
        timesteps: training timestep of each row.
        embeds: text of each row.
        condition: what the UNet reads beside the noisy latents: unscaled latents of the condition picture for
            InstructPix2Pix, mask and masked latents for inpainting.
        weight: weight of each latent cell; only its proportions matter.
        features: added behind the UNet's first convolution; None = nothing.

    Raises:
        ModelError: if the scheduler predicts something else.
    """
    noisy = scheduler.add_noise(clean, noise, timesteps)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        wanted = noise
    elif kind == "v_prediction":
        wanted = scheduler.get_velocity(clean, noise, timesteps)
    else:
        raise ModelError(f"expected a checkpoint that predicts epsilon or v, got {kind!r}")
    model_input = noisy if condition is None else torch.cat([noisy, condition], 1)
    with add_input_features(unet, features):
        predicted = unet(model_input, timesteps, encoder_hidden_states=embeds, return_dict=False)[0]
    error = (predicted - wanted) ** 2
    return error.mean() if weight is None else (error * weight).mean() / weight.mean()
