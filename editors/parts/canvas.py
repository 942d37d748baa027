"""The frame every edit runs in: working size, memory, locality, and the account of what happened.

An editor supplies a pass that works on pictures of a size its model likes; the frame resizes there and back, runs as
many pictures at once as fit, puts back what is outside the mask and measures what the model would have changed there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from ..core.backbone import Backbone
from ..core.chunking import in_chunks
from ..core.images import fit_size, pad_to_multiple, resize_image
from ..core.types import Image, Mask
from .masks import composite, dilate_mask, feather_mask, outside_change, union
from .options import CanvasConfig
from .request import EditRequest, EditResult, EditTrace, join_results


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """What an editor's pass gives back, at working size."""

    image: Image
    masks: tuple[Mask, ...]
    """One per instruction; where an editor has none, all ones."""
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    timesteps: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)


def to_working_size(request: EditRequest, backbone: Backbone, size: int | None) -> EditRequest:
    """The request on the backbone's device, scaled so that the longest side is `size` and padded to whole latent cells."""
    height, width = fit_size(*request.image.shape[-2:], longest=size or backbone.native_size)

    def bring(picture: torch.Tensor) -> torch.Tensor:
        resized = resize_image(picture.to(backbone.device, torch.float32), height, width)
        return pad_to_multiple(resized, backbone.vae_scale_factor)

    return replace(
        request,
        image=bring(request.image),
        condition=None if request.condition is None else bring(request.condition),
        mask=None if request.mask is None else bring(request.mask),
        instructions=tuple(i if i.mask is None else replace(i, mask=bring(i.mask)) for i in request.instructions),
    )


def from_working_size(picture: Image | Mask, request: EditRequest, size: int | None, native: int) -> Image | Mask:
    """Undo `to_working_size` for a picture or mask: crop the padding, scale to the request's size."""
    height, width = request.image.shape[-2:]
    inner = fit_size(height, width, longest=size or native)
    return resize_image(picture[..., : inner[0], : inner[1]], height, width).to(request.image.device)


def given_masks(request: EditRequest) -> list[Mask | None]:
    """The mask of each instruction where the user gave one: its own, or else the request's."""
    return [request.mask if i.mask is None else i.mask for i in request.instructions]


def edit_on_canvas(
    request: EditRequest,
    backbone: Backbone,
    config: CanvasConfig,
    run: Callable[[EditRequest], PassResult],
    *,
    name: str,
) -> EditResult:
    """Run an editor's pass on a request of any size.

    Args:
        request: what to do.
        backbone: gives device, native size and latent grid.
        config: how to bring pictures to the model and back.
        run: the editor's pass at working size.
        name: of the editor, for the trace.
    """
    size, native = config.size, backbone.native_size

    def one(rows: slice) -> EditResult:
        start = time.perf_counter()
        part = request.rows(rows)
        result = run(to_working_size(part, backbone, size))
        found = [from_working_size(mask, part, size, native).clamp(0, 1) for mask in result.masks]
        given = given_masks(part)
        # A mask the user gave counts at its own resolution, not at the model's.
        masks = [
            feather_mask(dilate_mask(f if g is None else g, config.mask_dilate), config.mask_feather)
            for f, g in zip(found, given, strict=True)
        ]
        mask = union(masks)
        raw = from_working_size(result.image, part, size, native).clamp(0, 1)
        image = composite(raw, part.preserved, mask) if config.keep_outside == "exact" else raw
        trace = EditTrace(
            editor=name,
            prompt=result.prompt,
            keywords=result.keywords,
            timesteps=result.timesteps,
            mask_area=tuple(mask.mean((1, 2, 3)).tolist()),
            outside_change=tuple(outside_change(image, part.preserved, mask).tolist()),
            outside_change_unkept=tuple(outside_change(raw, part.preserved, mask).tolist()),
            warnings=result.warnings,
            settings=result.settings,
            seconds=time.perf_counter() - start,
        )
        return EditResult(image=image, mask=mask, masks=tuple(masks), trace=trace)

    return join_results(in_chunks(one, len(request.image), chunk=config.chunk))
