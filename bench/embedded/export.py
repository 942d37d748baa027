"""Stage 4 of the embedded set: a checkpoint folder in diffusers' layout, fp16 safetensors, with its own preset."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline

from ...editors import PRESET_FILE, CheckpointPreset
from .editor import build_scheduler
from .train import TrainedSet

EMBEDDED_PRESET = CheckpointPreset(
    sampler="ddim",
    steps=20,
    guidance_scale=2.5,
    image_guidance_scale=1.2,
    foi_noise_level=1.0,
    mask_stride=1,
    mask_stages=("up",),
    mask_squarings=1,
    mask_threshold=0.35,
    knows="the blocks world (small pictures of spheres, cubes and cylinders)",
)
"""Settings chosen on validation scenes for the embedded set."""


def export_set(trained: TrainedSet, folder: Path, *, preset: CheckpointPreset = EMBEDDED_PRESET) -> None:
    """Write a trained set so that `from_pretrained` of diffusers and `--model FOLDER` load it."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=trained.vae,
        text_encoder=trained.model.text_encoder,
        tokenizer=trained.tokenizer,
        unet=trained.model.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    (folder / PRESET_FILE).write_text(json.dumps(asdict(preset), indent=2) + "\n")
