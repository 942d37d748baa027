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
from .parts.request import EditRequest
from .parts.tools import Tools, tools_of


class DiffEdit(CaptionEditor[DiffEditConfig]):
    """DiffEdit on the shared core; all instructions share one mask, unless they bring their own."""

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
        return _fill(given_masks(request), self._grid(request), *request.image.shape[-2:])

    def _grid(self, request: EditRequest) -> LatentMask | None:
        """Cells of DiffEdit's own mask; None where every instruction brings one.

        Raises:
            NothingFoundError: if a picture has none.
        """
        if all(mask is not None for mask in given_masks(request)):
            return None
        difference = self.difference(request)
        # The only wait for the device before the edit: an empty mask must stop it.
        peaks = difference.amax((1, 2, 3)).tolist()
        for peak, captions in zip(peaks, request.captions, strict=True):
            if peak <= self.threshold:
                raise NothingFoundError(captions.target, score=peak, threshold=self.threshold)
        return (difference > self.threshold).float()

    @torch.no_grad()
    def difference(self, request: EditRequest) -> Float[Tensor, "batch 1 latent_height latent_width"]:
        """DiffEdit's map in [0, 1] of a planned request at working size: high where the captions disagree.

        Source: DiffEdit, section 3.2, step 1. Guidance is left out: with scale s against any third prediction both
        sides change by the same, what is left is s times this difference, and the map is normalised.
        """
        backbone, config, captions = self.backbone, self.config, request.captions
        maps, count = config.mask_maps, len(request.image)
        at = caption_schedule(backbone, self.settings.steps, ratio=config.mask_strength).timesteps[0]
        schedule = caption_schedule(backbone, self.settings.steps)
        clean = backbone.scale_latents(backbone.encode(request.preserved))
        generators = make_generators(request.seeds, clean.device)
        # Maps stand along the channels while the noise is drawn, then along the batch, picture by picture.
        drawn = draw_noise(generators, (maps * clean.shape[1], *clean.shape[2:]), clean.dtype)
        noise = drawn.unflatten(1, (maps, -1)).flatten(0, 1)
        noisy = schedule.add_noise(clean.repeat_interleave(maps, 0), noise, at)
        sides = {"source": [c.source for c in captions], "text": [c.target for c in captions]}
        texts = {side: backbone.embed(caption).repeat_interleave(maps, 0) for side, caption in sides.items()}
        predicted = backbone.predict(noisy, at, backbone.lay_out(texts, batch=count * maps))
        difference = (predicted["text"] - predicted["source"]).float()
        return difference_map(difference.unflatten(0, (count, maps)), clip=config.mask_clip)

    def _run(self, request: EditRequest) -> PassResult:
        given, own = given_masks(request), self._grid(request)
        prepared = prepare_captions(request, self.backbone, self.settings, self._inverter, ratio=self.ratio)
        # Its own mask is made of latent cells already; only those that are brought have to be put on them.
        cells: list[LatentMask] = [] if own is None else [own]
        warnings: tuple[str, ...] = ()
        brought = [mask for mask in given if mask is not None]
        if brought:
            put, warnings = latent_mask(brought, prepared.latent_size, self.settings.mask_resize)
            cells.append(put)
        image = prepared.denoise(union(cells), blend=self.config.blend)
        masks = _fill(given, own, *request.image.shape[-2:])
        settings = {"encoding_ratio": self.ratio, "mask_threshold": self.threshold}
        return prepared.result(image, masks, warnings=warnings, settings=settings)


def _fill(given: Sequence[Mask | None], own: LatentMask | None, height: int, width: int) -> tuple[Mask, ...]:
    """Masks at picture size: the given ones, and `own` where there is none."""
    found = None if own is None else grid_to_mask(own, height, width)
    return tuple(mask for each in given if (mask := found if each is None else each) is not None)
