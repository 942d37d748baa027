"""Grounded inpainting: the baseline of InstructEdit (arXiv 2305.18047, section 4.5).

The objects are found as InstructEdit finds them; an inpainting checkpoint then paints what is inside the mask anew from
pure noise, under the edited caption. Nothing of what was there is kept, so there is no encoding ratio.

Differs from the paper: several instructions are one run in which the region of each follows its own caption.
"""

from dataclasses import asdict

import torch

from .core.attention import control_if_edited
from .core.backbone import Backbone, Conditioning
from .core.sampling import draw_noise, make_generators, sample
from .core.types import Branch, Mask
from .core.view_sharing import share_views
from .parts.canvas import PassResult, given_or_whole
from .parts.caption_editor import GroundedEditor
from .parts.caption_options import InpaintConfig
from .parts.caption_pass import caption_schedule, embed_branches
from .parts.masks import union
from .parts.regions import Regions, put_on_latents
from .parts.request import EditRequest
from .parts.tools import Tools, tools_of


class Inpaint(GroundedEditor[InpaintConfig]):
    """Grounded inpainting on the shared core."""

    name = "inpaint"

    def __init__(self, backbone: Backbone, config: InpaintConfig | None = None, *, tools: Tools | None = None) -> None:
        """Edit with an inpainting checkpoint; tools not given are those the settings name."""
        config = config or InpaintConfig()
        tools = tools or tools_of(config, backbone)
        super().__init__(backbone, config, tools)

    def _run(self, request: EditRequest) -> PassResult:
        backbone, settings = self.backbone, self.settings
        masks = given_or_whole(request)
        schedule = caption_schedule(backbone, settings.steps, levels=request.noise_levels)
        generators = make_generators(request.seeds, backbone.device)
        factor = backbone.vae_scale_factor
        size = (request.image.shape[-2] // factor, request.image.shape[-1] // factor)
        regions = put_on_latents(request, masks, size, settings.mask_resize)
        guidance = regions.guidance(settings.guidance_scale)
        shape = (backbone.latent_channels, *size)
        noise = draw_noise(generators, shape, torch.float32, source=request.noise, filled=request.filled)
        # From pure noise nothing of the picture is seen; dataset updates begin with noise of a lower level on it.
        clean = None
        if request.noise_levels is not None:
            clean = backbone.scale_latents(backbone.encode(request.image, keep=request.condition is None))
        shared = share_views(request.sharing, len(noise))
        with control_if_edited(backbone.unet, shared, guidance.branches) as control:
            latents = sample(
                backbone,
                schedule.start(clean, noise),
                conditioning=self._conditions(request, guidance.branches, union(masks), regions),
                guidance=guidance,
                schedule=schedule,
                generators=generators,
                control=control,
            )
        return PassResult(
            image=backbone.decode(latents),
            masks=masks,
            prompt=request.captions[0].target,
            captions=request.captions,
            region_captions=request.region_captions,
            timesteps=tuple(round(t) for t in schedule.timesteps[:, 0].tolist()),
            warnings=regions.warnings,
            settings=asdict(settings),
        )

    def _conditions(
        self, request: EditRequest, branches: tuple[Branch, ...], mask: Mask, regions: Regions
    ) -> Conditioning:
        """The edited captions, and for every branch the mask and the preserved picture without what is inside.

        Source: Stable Diffusion's inpainting checkpoints, whose UNet reads latents, mask and masked latents in this
        order; masked pixels are 0 in the range [-1, 1] of the autoencoder.
        """
        backbone, cells = self.backbone, regions.cells
        emptied = torch.where(mask < 0.5, request.preserved, 0.5)
        channels = torch.cat([cells, backbone.scale_latents(backbone.encode(emptied))], 1)
        texts = embed_branches(backbone, branches, regions.targets)
        return backbone.lay_out(texts, dict.fromkeys(branches, channels), batch=len(cells))
