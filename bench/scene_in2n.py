"""Instruct-NeRF2NeRF's edit of one view (arXiv 2303.12789, section 4.2) as published, on diffusers' own classes.

It is here to be timed beside ours, on the same weights. What it does for each view:

- A noise level T is drawn from the whole range, and DDIM's 20 steps are laid between T and 0.
- The render is encoded, a SAMPLE of the posterior, and noised; the ORIGINAL photo is encoded anew, the mode.
- The three branches of InstructPix2Pix's guidance go through the UNet in one call; the result is decoded.

The instruction is encoded once, when the run begins.

Source: ayaanzhaque/instruct-nerf2nerf, `in2n/ip2p.py` and `in2n/in2n_pipeline.py`.
"""

from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline

from ..editors import Backbone, Image, InputError

_TRAIN_TIMESTEPS = 1000
# Those of the scheduler of Stable Diffusion 1.4, which the published code takes in place of the checkpoint's own.
_PUBLISHED_SCHEDULE = {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


class In2nEdit:
    """Edits one view at a time.

    Args:
        backbone: the networks; nothing of it is changed.
        instruction: what to do.
        guidance_scale: of the text, S_T.
        image_guidance_scale: of the photo, S_I.
        steps: of DDIM.
        lower: lowest noise level, as a share of the schedule.
        upper: highest noise level.

    Raises:
        InputError: if the lowest level leaves fewer noise levels than steps.
    """

    def __init__(
        self,
        backbone: Backbone,
        instruction: str,
        *,
        guidance_scale: float = 7.5,
        image_guidance_scale: float = 1.5,
        steps: int = 20,
        lower: float = 0.02,
        upper: float = 0.98,
    ) -> None:
        if lower * _TRAIN_TIMESTEPS < steps:
            raise InputError(f"expected a lowest noise level of at least {steps / _TRAIN_TIMESTEPS:g}, got {lower:g}")
        self.steps, self.lower, self.upper = steps, lower, upper
        self.scales = {"guidance_scale": guidance_scale, "image_guidance_scale": image_guidance_scale}
        self.vae, self.device, self.dtype = backbone.vae, backbone.device, backbone.dtype
        self.scheduler: Any = DDIMScheduler.from_config({**backbone.scheduler_config, **_PUBLISHED_SCHEDULE})
        self.pipeline: Any = StableDiffusionInstructPix2PixPipeline(
            vae=backbone.vae,
            text_encoder=backbone.text_encoder,
            tokenizer=backbone.tokenizer,
            unet=backbone.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.texts = {
            "prompt_embeds": backbone.embed([instruction]),
            "negative_prompt_embeds": backbone.embed([""]),
        }

    @torch.no_grad()
    def __call__(self, render: Image, photo: Image, generator: torch.Generator) -> Image:
        """Edit a view.

        Args:
            render: the scene as it is now, one picture.
            photo: the original one of the same view.
            generator: on the main processor.
        """
        low, high = int(_TRAIN_TIMESTEPS * self.lower), int(_TRAIN_TIMESTEPS * self.upper)
        level = int(torch.randint(low, high + 1, (1,), generator=generator))
        # The published code lays the steps between this level and 0 by the same trick; the noise schedule itself was
        # made when the scheduler was, and stays that of 1000 levels.
        self.scheduler.register_to_config(num_train_timesteps=level)
        self.scheduler.set_timesteps(self.steps)
        pixels = render.to(self.device, self.dtype) * 2 - 1
        posterior = self.vae.encode(pixels).latent_dist
        clean = self._draw(posterior.mean, generator) * posterior.std + posterior.mean
        clean = clean * self.vae.config.scaling_factor
        noisy = self.scheduler.add_noise(clean, self._draw(clean, generator), self.scheduler.timesteps[:1])
        done = self.pipeline(
            image=photo.to(self.device, self.dtype),
            latents=noisy,
            num_inference_steps=self.steps,
            output_type="pt",
            **self.texts,
            **self.scales,
        )
        return done.images.float()

    def _draw(self, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).to(like)
