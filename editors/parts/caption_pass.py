"""What every editor on captions shares: settings of a run, inversion, mask-guided denoising.

DiffEdit (arXiv 2210.11427) and InstructEdit (arXiv 2305.18047, section 3.4): the picture is inverted by DDIM under its
own caption up to the encoding ratio, then denoised under the edited caption; outside the mask the inverted latents are
put back after every step (InstructEdit, Eq. 4).

In a scene two pictures enter: the path that is edited starts from the current render, while what is put back outside
the mask comes from the original photo. Where both are the same picture, this is the method for pictures, bit for bit
for one view at a time (sums in a batch of several differ in their last bits).

Differs from the paper: pictures keep their aspect, the longest side at the checkpoint's size and padded to whole latent
cells, where the published code squashes them to a square.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.attention import control_if_edited
from ..core.backbone import Backbone
from ..core.caching import Remembered, picture_key
from ..core.checkpoint import CaptionPreset, MaskResize
from ..core.consistency import ViewSharing
from ..core.guidance import Guidance, TextGuidance
from ..core.inversion import invert
from ..core.sampling import StepHook, sample
from ..core.schedule import DDIMSchedule, make_schedule
from ..core.types import Branch, Image, LatentMask, Latents, Mask
from ..core.view_sharing import share_views
from .canvas import PassResult
from .caption_options import CaptionConfig
from .masks import composite_latents, region_to_grid, union
from .request import Captions, EditRequest

LatentPath: TypeAlias = Float[Tensor, "points batch channels latent_height latent_width"]
"""Latents of an inversion, from clean to noisy."""
_PATHS_KEPT = 2048
"""Photos of a scene; their paths stand in main memory, about 2 MB each at 512 pixels."""


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """A run's settings with every preset resolved."""

    steps: int
    guidance_scale: float
    mask_resize: MaskResize


def resolve_captions(config: CaptionConfig, preset: CaptionPreset) -> CaptionSettings:
    """Fill what the configuration leaves open from the checkpoint's preset."""
    return CaptionSettings(
        steps=config.steps or preset.steps,
        guidance_scale=config.guidance_scale or preset.guidance_scale,
        mask_resize=config.mask_resize or preset.mask_resize,
    )


def caption_scheduler(backbone: Backbone) -> dict[str, Any]:
    """The noise schedule all of these editors step on.

    Source: InstructEdit's code, which leaves diffusers' defaults for leading spacing: timesteps 0, 20, ..., 980. So the
    first step of an inversion changes nothing, and the last one of denoising ends at the very latents it began with.
    """
    return {
        **backbone.scheduler_config,
        "timestep_spacing": "leading",
        "steps_offset": 0,
        "set_alpha_to_one": False,
    }


def executed_steps(steps: int, ratio: float) -> int:
    """How many of the steps an encoding ratio runs: floor(N r), exact also where N r is not."""
    return int(steps * ratio + 1e-6)


def caption_schedule(
    backbone: Backbone, steps: int, *, ratio: float = 1.0, levels: Sequence[float] | None = None
) -> DDIMSchedule:
    """DDIM over the last `ratio` of the noise range.

    Args:
        backbone: whose noise schedule.
        steps: over the whole range.
        ratio: share of them that is run, in (0, 1].
        levels: or one share of the training timesteps for each picture, below which all steps are spread.

    Raises:
        InputError: if nothing is left to run.
    """
    executed = executed_steps(steps, ratio) / steps
    schedule = make_schedule(
        "ddim",
        steps,
        config=caption_scheduler(backbone),
        device=backbone.device,
        noise_level=executed,
        bounds=levels,
    )
    assert isinstance(schedule, DDIMSchedule)
    return schedule


class Inverter:
    """Inverts pictures under their captions; paths of pictures that come again are remembered."""

    def __init__(self, backbone: Backbone) -> None:
        """Invert with a text-to-image checkpoint."""
        self._backbone = backbone
        self._paths: Remembered[LatentPath] = Remembered(_PATHS_KEPT)

    def invert(
        self, image: Image, captions: Sequence[Captions], schedule: DDIMSchedule, *, keep: bool, is_photo: bool = True
    ) -> LatentPath:
        """The path of each picture, under its source caption and without guidance.

        Args:
            image: at working size.
            captions: one for each picture.
            schedule: the denoising schedule that will be run from the end of the path.
            keep: whether to remember the paths: those of a scene's photos come again.
            is_photo: whether the pictures' latents are worth remembering; a render never comes again.
        """
        if not keep:
            return self._run(image, [c.source for c in captions], schedule, keep=is_photo)
        times = tuple(schedule.timesteps.flatten().tolist())

        def one(row: int) -> LatentPath:
            path = self._run(image[row : row + 1], [captions[row].source], schedule, keep=is_photo)
            return path.cpu()

        keys = [(picture_key(image[i]), captions[i].source, times) for i in range(len(image))]
        paths = [self._paths.get(key, lambda row=row: one(row)) for row, key in enumerate(keys)]
        return torch.cat(paths, 1).to(self._backbone.device)

    def _run(self, image: Image, sources: Sequence[str], schedule: DDIMSchedule, *, keep: bool) -> LatentPath:
        backbone = self._backbone
        guidance = TextGuidance(guidance_scale=1.0)
        return invert(
            backbone,
            backbone.scale_latents(backbone.encode(image, keep=keep)),
            conditioning=backbone.condition(guidance.branches, backbone.embed(sources), batch=len(image)),
            guidance=guidance,
            schedule=schedule,
        )


@dataclass(frozen=True, kw_only=True)
class CaptionPass:
    """One prepared run: the paths of both pictures, and what the denoising loop needs."""

    backbone: Backbone
    settings: CaptionSettings
    schedule: DDIMSchedule
    captions: tuple[Captions, ...]
    region_captions: tuple[tuple[Captions, ...], ...]
    """For each instruction, where regions go by their own."""
    path: LatentPath
    """Of the picture that is edited."""
    background: LatentPath
    """Of the picture that is preserved."""
    sharing: ViewSharing | None = None
    """Of self-attention while denoising; an inversion leads each picture back to itself alone."""

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of the latents."""
        return self.path.shape[-2], self.path.shape[-1]

    def denoise(
        self,
        mask: LatentMask | None,
        *,
        targets: Mapping[Branch, Sequence[str]] | None = None,
        guidance: Guidance | None = None,
        blend: Literal["aligned", "reference"] = "aligned",
        hooks: Sequence[StepHook] = (),
    ) -> Image:
        """Denoise from the noisy end of the path under the edited captions, and decode.

        Args:
            mask: where latents may leave the background's path; None = everywhere.
            targets: the edited captions of each text branch of the guidance; None = those of the run, for `text`.
            guidance: None = classifier-free guidance.
            blend: which of the background's latents are put back.
            hooks: run after each step, once the background is back.

        Source: InstructEdit, Eq. 4, read as one DDIM step from the blended latents of the step before.
        """
        backbone, count = self.backbone, len(self.captions)
        guidance = guidance or TextGuidance(guidance_scale=self.settings.guidance_scale)
        texts = targets or {"text": [c.target for c in self.captions]}
        restore = () if mask is None else (_restore_outside(mask, self.background, blend),)
        with control_if_edited(backbone.unet, share_views(self.sharing, count), guidance.branches) as control:
            latents = sample(
                backbone,
                self.path[-1],
                conditioning=backbone.lay_out(embed_branches(backbone, guidance.branches, texts), batch=count),
                guidance=guidance,
                schedule=self.schedule,
                generators=(),
                control=control,
                hooks=(*restore, *hooks),
            )
        return backbone.decode(latents)

    def result(
        self, image: Image, masks: tuple[Mask, ...], *, warnings: tuple[str, ...], settings: Mapping[str, object]
    ) -> PassResult:
        """What the pass gives back, with its own settings and those of the editor."""
        return PassResult(
            image=image,
            masks=masks,
            prompt=self.captions[0].target,
            captions=self.captions,
            region_captions=self.region_captions,
            timesteps=tuple(round(t) for t in self.schedule.timesteps[:, 0].tolist()),
            warnings=warnings,
            settings={**asdict(self.settings), **settings},
        )


def _restore_outside(mask: LatentMask, background: LatentPath, blend: Literal["aligned", "reference"]) -> StepHook:
    """A step hook that puts the background's latents back outside the mask.

    After step i of K the latents are at point K - i - 1 of the path. Differs from the paper's code, unless `blend` is
    `reference`: it puts back point K - i, whose noise is that of the step before.
    """
    last = len(background) - 1

    def restore(step: int, latents: Latents) -> Latents:
        point = last - step - (1 if blend == "aligned" else 0)
        return composite_latents(latents, background[point], mask)

    return restore


def prepare_captions(
    request: EditRequest,
    backbone: Backbone,
    settings: CaptionSettings,
    inverter: Inverter,
    *,
    ratio: float,
    restores: bool = True,
) -> CaptionPass:
    """Invert the pictures of a planned request at working size.

    Args:
        request: with captions.
        backbone: a text-to-image checkpoint.
        settings: of the run.
        inverter: remembers the paths of a scene's photos.
        ratio: encoding ratio; levels in the request take its place.
        restores: whether anything of the preserved picture will be put back.
    """
    schedule = caption_schedule(backbone, settings.steps, ratio=ratio, levels=request.noise_levels)
    is_render = request.condition is not None
    path = inverter.invert(request.image, request.captions, schedule, keep=False, is_photo=not is_render)
    background = path
    if is_render and restores:
        background = inverter.invert(request.preserved, request.captions, schedule, keep=True)
    return CaptionPass(
        backbone=backbone,
        settings=settings,
        schedule=schedule,
        captions=request.captions,
        region_captions=request.region_captions,
        path=path,
        background=background,
        sharing=request.sharing,
    )


def embed_branches(
    backbone: Backbone, branches: Sequence[Branch], targets: Mapping[Branch, Sequence[str]]
) -> dict[Branch, Float[Tensor, "_ tokens width"]]:
    """Hidden states of each branch's captions, one for each picture; of the empty text where a branch has none."""
    empty = backbone.embed([""])
    return {branch: backbone.embed(targets[branch]) if branch in targets else empty for branch in branches}


def latent_mask(masks: Sequence[Mask], size: tuple[int, int], how: MaskResize) -> tuple[LatentMask, tuple[str, ...]]:
    """The union of picture masks on the grid of the latents, and a warning where nothing is left of one.

    Args:
        masks: at working size.
        size: rows and columns of the latents.
        how: `nearest` takes the value at one pixel of each cell, as published; `cover` takes every cell of which a
            fifth is inside.
    """
    whole = union(masks)
    if how == "nearest":
        cells = F.interpolate((whole >= 0.5).float(), size, mode="nearest")
    else:
        cells = region_to_grid(whole, *size)
    lost = ((cells.amax((1, 2, 3)) == 0) & (whole.amax((1, 2, 3)) > 0)).tolist()
    if not any(lost):
        return cells, ()
    return cells, (
        f"the mask of {sum(lost)} of {len(lost)} pictures is too thin for the latents: nothing of it is edited, "
        "grow it with --mask-dilate or pass --mask-resize cover",
    )
