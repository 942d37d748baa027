"""DiffEdit: Diffusion-based semantic image editing with mask guidance (arXiv 2210.11427).

The mask is where a text-to-image model's noise predictions under the two captions differ; the edit is DDIM inversion
and mask-guided denoising, see `parts/caption_pass.py`.

Differs from the paper: the inversion reads the source caption, as InstructEdit's baseline does, instead of none (leave
the source caption empty for that); and the mask needs no guidance, whose scale and empty text cancel out in it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .core.backbone import Backbone
from .core.errors import NothingFoundError
from .core.sampling import draw_noise, make_generators
from .core.types import LatentMask, Mask
from .parts.canvas import PassResult, given_masks
from .parts.caption_editor import CaptionEditor
from .parts.caption_options import DiffEditConfig
from .parts.caption_pass import caption_schedule, latent_mask, prepare_captions
from .parts.masks import difference_map, grid_to_mask, union
from .parts.regions import Regions, one_region, own_regions
from .parts.request import Captions, EditRequest
from .parts.tools import Tools, tools_of


class DiffEdit(CaptionEditor[DiffEditConfig]):
    """DiffEdit on the shared core.

    Several instructions are edited in one run. Each has the mask that its own captions make, and follows them there;
    where captions are given for all, those without a mask share one.
    """

    name = "diffedit"

    def __init__(self, backbone: Backbone, config: DiffEditConfig | None = None, *, tools: Tools | None = None) -> None:
        """Edit with a text-to-image checkpoint; tools not given are those the settings name."""
        config = config or DiffEditConfig()
        tools = tools or tools_of(config, backbone)
        super().__init__(backbone, config, tools)
        preset = backbone.preset.caption
        self.ratio = config.encoding_ratio or preset.encoding_ratio
        self.threshold = config.mask_threshold or preset.mask_threshold
        self._inverter = tools.inverter

    def _find(self, request: EditRequest) -> tuple[Mask, ...]:
        return _fill(given_masks(request), self._grids(request), *request.image.shape[-2:])

    def _grids(self, request: EditRequest) -> tuple[LatentMask | None, ...]:
        """Cells of each instruction's own mask; None where it brings one.

        Raises:
            NothingFoundError: if a picture has none.
        """
        given = given_masks(request)
        if request.region_captions:
            pairs = zip(given, request.region_captions, strict=True)
            return tuple(self._grid(request, captions) if mask is None else None for mask, captions in pairs)
        shared = self._grid(request, request.captions) if any(mask is None for mask in given) else None
        return tuple(shared if mask is None else None for mask in given)

    def _grid(self, request: EditRequest, captions: Sequence[Captions]) -> LatentMask:
        difference = self.difference(request, captions)
        # The only wait for the device before the edit: an empty mask must stop it.
        peaks = difference.amax((1, 2, 3)).tolist()
        for peak, caption in zip(peaks, captions, strict=True):
            if peak <= self.threshold:
                raise NothingFoundError(caption.target, score=peak, threshold=self.threshold)
        return (difference > self.threshold).float()

    @torch.no_grad()
    def difference(
        self, request: EditRequest, captions: Sequence[Captions] = ()
    ) -> Float[Tensor, "batch 1 latent_height latent_width"]:
        """DiffEdit's map in [0, 1] of a planned request at working size: high where the captions disagree.

        Args:
            request: what to do.
            captions: one for each picture; () = those of the request.

        Source: DiffEdit, section 3.2, step 1. Guidance is left out: with scale s against any third prediction both
        sides change by the same, what is left is s times this difference, and the map is normalised.
        """
        backbone, config, captions = self.backbone, self.config, captions or request.captions
        maps, count = config.mask_maps, len(request.image)
        at = caption_schedule(backbone, self.settings.steps, ratio=config.mask_strength).timesteps[0]
        schedule = caption_schedule(backbone, self.settings.steps)
        clean = backbone.scale_latents(backbone.encode(request.preserved))
        generators = make_generators(request.seeds, clean.device)
        # Maps stand along the channels while the noise is drawn, then along the batch, picture by picture.
        shape = (maps * clean.shape[1], *clean.shape[2:])
        drawn = draw_noise(generators, shape, clean.dtype, source=request.noise, filled=request.filled)
        noise = drawn.unflatten(1, (maps, -1)).flatten(0, 1)
        noisy = schedule.add_noise(clean.repeat_interleave(maps, 0), noise, at)
        sides = {"source": [c.source for c in captions], "text": [c.target for c in captions]}
        texts = {side: backbone.embed(caption).repeat_interleave(maps, 0) for side, caption in sides.items()}
        predicted = backbone.predict(noisy, at, backbone.lay_out(texts, batch=count * maps))
        difference = (predicted["text"] - predicted["source"]).float()
        return difference_map(difference.unflatten(0, (count, maps)), clip=config.mask_clip)

    def _run(self, request: EditRequest) -> PassResult:
        given, own = given_masks(request), self._grids(request)
        prepared = prepare_captions(request, self.backbone, self.settings, self._inverter, ratio=self.ratio)
        regions = self._regions(request, given, own, prepared.latent_size)
        image = prepared.denoise(
            regions.cells,
            targets=regions.targets,
            guidance=regions.guidance(self.settings.guidance_scale),
            blend=self.config.blend,
        )
        masks = _fill(given, own, *request.image.shape[-2:])
        settings = {"encoding_ratio": self.ratio, "mask_threshold": self.threshold}
        return prepared.result(image, masks, warnings=regions.warnings, settings=settings)

    def _regions(
        self,
        request: EditRequest,
        given: Sequence[Mask | None],
        own: Sequence[LatentMask | None],
        size: tuple[int, int],
    ) -> Regions:
        """Its own masks are made of latent cells already; only those that are brought have to be put on them."""
        how = self.settings.mask_resize
        brought = [mask for mask in given if mask is not None]
        if not request.region_captions:
            cells, warnings = latent_mask(brought, size, how) if brought else (None, ())
            found = [*own, cells]
            return one_region(request, union([each for each in found if each is not None]), warnings)
        put = iter([latent_mask([mask], size, how) for mask in brought])
        pairs = [(each, ()) if each is not None else next(put) for each in own]
        return own_regions(request, [cells for cells, _ in pairs], [word for _, words in pairs for word in words])


def _fill(given: Sequence[Mask | None], own: Sequence[LatentMask | None], height: int, width: int) -> tuple[Mask, ...]:
    """Masks at picture size: the given ones, and an instruction's own where there is none."""
    found = [None if cells is None else grid_to_mask(cells, height, width) for cells in own]
    pairs = zip(given, found, strict=True)
    return tuple(mask for each, one in pairs if (mask := one if each is None else each) is not None)
