"""The one denoising loop, and the noise it runs on."""

from collections.abc import Callable, Sequence

import torch

from .attention import AttentionControl
from .backbone import Backbone, Conditioning
from .consistency import NoiseSource
from .errors import ModelError
from .guidance import Guidance
from .schedule import Schedule
from .types import Latents

StepHook = Callable[[int, Latents], Latents]
"""Receives the step and the latents after it; returns the latents to go on with."""


def make_generators(seeds: Sequence[int], device: torch.device) -> tuple[torch.Generator, ...]:
    """One generator per picture, so that a result does not depend on the batch it was computed in."""
    return tuple(torch.Generator(device).manual_seed(seed) for seed in seeds)


def draw_noise(
    generators: Sequence[torch.Generator],
    shape: Sequence[int],
    dtype: torch.dtype,
    *,
    source: NoiseSource | None = None,
    filled: tuple[float, float] = (1.0, 1.0),
) -> Latents:
    """Standard normal latents of the given shape per picture.

    Args:
        generators: one per picture; with or without a source they are asked for as much, so that what is drawn from
            them later is the same.
        shape: channels, rows and columns.
        dtype: of the latents.
        source: gives the noise instead.
        filled: share of rows and columns that shows the picture, for the source.
    """
    own = torch.cat([torch.randn((1, *shape), generator=g, device=g.device, dtype=dtype) for g in generators])
    return own if source is None else source.draw(own, filled=filled)


@torch.no_grad()
def sample(
    backbone: Backbone,
    latents: Latents,
    *,
    conditioning: Conditioning,
    guidance: Guidance,
    schedule: Schedule,
    generators: Sequence[torch.Generator],
    control: AttentionControl | None = None,
    hooks: Sequence[StepHook] = (),
) -> Latents:
    """Denoise latents.

    Args:
        backbone: the networks.
        latents: from `schedule.start`.
        conditioning: conditions of the branches that the guidance names.
        guidance: combines the branches.
        schedule: timesteps and steps.
        generators: one per picture, for ancestral noise.
        control: active attention control, told every step.
        hooks: run in order after each step.
    """
    if control is not None and control.branches != conditioning.branches:
        raise ModelError(
            f"attention is controlled for the branches {control.branches}, but the run has {conditioning.branches}: "
            "pass the run's branches to `attention_control`"
        )
    for step in range(schedule.steps):
        if control is not None:
            control.set_step(step)
        model_input = schedule.scale_model_input(latents, step)
        noise_pred = backbone.predict(model_input, schedule.timesteps[step], conditioning)
        latents = schedule.step(guidance.combine(noise_pred, step, latents), step, latents, generators)
        for hook in hooks:
            latents = hook(step, latents)
    return latents
