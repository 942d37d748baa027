"""What every editor on an InstructPix2Pix UNet shares: settings of a run, conditions, start latents, the loop."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

import torch

from ..core.attention import AttentionControl, AttentionEdit, control_if_edited
from ..core.backbone import Backbone, Conditioning
from ..core.checkpoint import InstructPreset, SamplerName
from ..core.consistency import ViewSharing
from ..core.guidance import InstructGuidance
from ..core.sampling import draw_noise, make_generators, sample
from ..core.schedule import DDIMSchedule, EulerAncestralSchedule, make_schedule
from ..core.types import Image, Latents, PromptEmbeds
from ..core.view_sharing import share_views
from .options import InstructConfig
from .request import EditRequest
from .tokens import TokenLayout

MakeConditions: TypeAlias = Callable[[Latents], Conditioning]
"""Makes a run's conditions, of the branches text, image and uncond, from unscaled latents of the condition pictures."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A run's settings with every preset resolved."""

    sampler: SamplerName
    steps: int
    guidance_scale: float
    image_guidance_scale: float
    noise_level: float


def resolve_run(config: InstructConfig, preset: InstructPreset, *, noise_level: float) -> RunSettings:
    """Fill what the configuration leaves open from the checkpoint's preset; `noise_level` is the editor's default."""
    return RunSettings(
        sampler=config.sampler or preset.sampler,
        steps=config.steps or preset.steps,
        guidance_scale=config.guidance_scale or preset.guidance_scale,
        image_guidance_scale=config.image_guidance_scale or preset.image_guidance_scale,
        noise_level=config.noise_level or noise_level,
    )


@dataclass(frozen=True, kw_only=True)
class InstructPass:
    """One prepared run: everything the denoising loop needs."""

    backbone: Backbone
    conditioning: Conditioning
    schedule: DDIMSchedule | EulerAncestralSchedule
    latents: Latents
    generators: tuple[torch.Generator, ...]
    sharing: ViewSharing | None = None

    @property
    def timesteps(self) -> tuple[int, ...]:
        """Training timesteps visited for the first picture."""
        return tuple(round(t) for t in self.schedule.timesteps[:, 0].tolist())

    def run(self, guidance: InstructGuidance, edits: Sequence[AttentionEdit] = ()) -> Image:
        """Denoise and decode, with attention edits if there are any."""
        with self.control(edits) as control:
            latents = sample(
                self.backbone,
                self.latents,
                conditioning=self.conditioning,
                guidance=guidance,
                schedule=self.schedule,
                generators=self.generators,
                control=control,
            )
        return self.backbone.decode(latents)

    def control(self, edits: Sequence[AttentionEdit] = ()) -> AbstractContextManager[AttentionControl | None]:
        """Attention as the run has it: pictures share theirs if that was asked for, and then come the edits."""
        shared = share_views(self.sharing, len(self.latents))
        return control_if_edited(self.backbone.unet, (*shared, *edits), self.conditioning.branches)


def under_text(backbone: Backbone, embeds: PromptEmbeds) -> MakeConditions:
    """The usual conditions: hidden states of a prompt, and the condition pictures as they are."""
    return lambda condition: backbone.condition(("text", "image", "uncond"), embeds, condition)


def prepare_pass(
    request: EditRequest, backbone: Backbone, settings: RunSettings, told: TokenLayout | MakeConditions
) -> InstructPass:
    """Make the conditions and draw the start latents of a request at working size.

    Args:
        request: what to do.
        backbone: the checkpoint.
        settings: of the run.
        told: a prompt, or who makes the conditions.
    """
    condition = backbone.encode(request.preserved)
    make = under_text(backbone, backbone.embed_ids(told.ids)) if isinstance(told, TokenLayout) else told
    conditioning = make(condition)
    schedule = make_schedule(
        settings.sampler,
        settings.steps,
        config=backbone.scheduler_config,
        device=backbone.device,
        noise_level=settings.noise_level,
        bounds=request.noise_levels,
    )
    generators = make_generators(request.seeds, backbone.device)
    noise = draw_noise(generators, condition.shape[1:], torch.float32, source=request.noise, filled=request.filled)
    begins_from_noise = settings.noise_level == 1 and request.noise_levels is None
    # A render never comes again, so its latents are not worth keeping; a photo that is its own condition is known.
    is_render = request.condition is not None
    clean = None if begins_from_noise else backbone.scale_latents(backbone.encode(request.image, keep=not is_render))
    return InstructPass(
        backbone=backbone,
        conditioning=conditioning,
        schedule=schedule,
        latents=schedule.start(clean, noise),
        generators=generators,
        sharing=request.sharing,
    )
