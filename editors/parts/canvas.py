"""The frame every edit runs in: working size, memory, locality, and the account of what happened.

An editor supplies a pass that works on pictures of a size its model likes; the frame resizes there and back, runs as
many pictures at once as fit, puts back what is outside the mask and measures what the model would have changed there.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.backbone import Backbone
from ..core.chunking import in_chunks
from ..core.errors import InputError
from ..core.images import fit_size, pad_to_multiple, resize_image
from ..core.types import Image, Mask
from .masks import composite, dilate_mask, feather_mask, outside_change, union
from .options import CanvasConfig
from .request import Captions, EditRequest, EditResult, EditTrace, join_results

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """What an editor's pass gives back, at working size."""

    image: Image
    masks: tuple[Mask, ...]
    """One per instruction; where an editor has none, all ones."""
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    captions: tuple[Captions, ...] = ()
    region_captions: tuple[tuple[Captions, ...], ...] = ()
    """For each instruction those of each picture, where regions go by their own."""
    timesteps: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict[str, object])


def working_size(request: EditRequest, size: int | None, native: int) -> tuple[int, int]:
    """Rows and columns at which the model works on a request, before padding.

    Args:
        request: its pictures' aspect is kept.
        size: longest side, at a scale of 1; None = the checkpoint's own.
        native: the checkpoint's own.
    """
    return fit_size(*request.image.shape[-2:], longest=round((size or native) * request.scale))


def to_working_size(request: EditRequest, backbone: Backbone, size: int | None) -> EditRequest:
    """The request on the backbone's device, its longest side scaled to `size` and padded to whole latent cells."""
    height, width = working_size(request, size, backbone.native_size)
    factor = backbone.vae_scale_factor

    def bring(picture: Tensor) -> Tensor:
        resized = resize_image(picture.to(backbone.device, torch.float32), height, width)
        return pad_to_multiple(resized, factor)

    image = bring(request.image)
    return replace(
        request,
        image=image,
        filled=(height / image.shape[-2], width / image.shape[-1]),
        condition=None if request.condition is None else bring(request.condition),
        mask=None if request.mask is None else bring(request.mask),
        instructions=tuple(i if i.mask is None else replace(i, mask=bring(i.mask)) for i in request.instructions),
    )


def from_working_size(
    picture: Image | Mask, request: EditRequest, size: int | None, native: int
) -> Float[Tensor, "batch channels height2 width2"]:
    """Undo `to_working_size` for a picture or mask: crop the padding, scale to the request's size."""
    height, width = request.image.shape[-2:]
    inner = working_size(request, size, native)
    return resize_image(picture[..., : inner[0], : inner[1]], height, width).to(request.image.device)


def given_masks(request: EditRequest) -> list[Mask | None]:
    """The mask of each instruction where the user gave one: its own, or else the request's."""
    return [request.mask if i.mask is None else i.mask for i in request.instructions]


def given_or_whole(request: EditRequest) -> tuple[Mask, ...]:
    """The mask of each instruction where the user gave one, else all ones."""
    whole = torch.ones_like(request.image[:, :1])
    return tuple(whole if mask is None else mask for mask in given_masks(request))


def masks_of_request(
    found: Sequence[Mask], request: EditRequest, config: CanvasConfig, native: int
) -> tuple[Float[Tensor, "batch 1 height2 width2"], ...]:
    """The mask of each instruction at the request's size: the user's where there is one, else the one found.

    Args:
        found: the editor's own masks, at working size.
        request: at its own size; a mask the user gave counts at this resolution, not at the model's.
        config: says at which size the model runs.
        native: the checkpoint's size.
    """
    pairs = zip(found, given_masks(request), strict=True)
    return tuple(
        from_working_size(own, request, config.size, native).clamp(0, 1)
        if given is None
        else given.to(request.image.device)
        for own, given in pairs
    )


def masks_on_canvas(
    request: EditRequest, backbone: Backbone, config: CanvasConfig, find: Callable[[EditRequest], Sequence[Mask]]
) -> tuple[Mask, ...]:
    """Find masks for a request of any size, as an edit would, before it grows or feathers them.

    So they can be given back as masks of the instructions, and an edit finishes them once.

    Args:
        request: what to do.
        backbone: gives device, native size and latent grid.
        config: how to bring pictures to the model and masks back.
        find: the masks of a request at working size.
    """

    def one(rows: slice) -> tuple[Mask, ...]:
        part = request.rows(rows)
        found = find(to_working_size(part, backbone, config.size))
        return masks_of_request(found, part, config, backbone.native_size)

    parts = in_parts(one, request, config.chunk)
    return tuple(torch.cat(masks) for masks in zip(*parts, strict=True))


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
        masks = tuple(
            feather_mask(dilate_mask(mask, config.mask_dilate), config.mask_feather)
            for mask in masks_of_request(result.masks, part, config, native)
        )
        mask = union(masks)
        raw = from_working_size(result.image, part, size, native).clamp(0, 1)
        image = composite(raw, part.preserved, mask) if config.keep_outside == "exact" else raw
        trace = EditTrace(
            editor=name,
            prompt=result.prompt,
            keywords=result.keywords,
            captions=result.captions,
            region_captions=tuple(zip(*result.region_captions, strict=True)),
            timesteps=result.timesteps,
            mask_area=tuple(mask.mean((1, 2, 3)).tolist()),
            outside_change=tuple(outside_change(image, part.preserved, mask).tolist()),
            outside_change_unkept=tuple(outside_change(raw, part.preserved, mask).tolist()),
            warnings=(*_notes(part), *result.warnings, *_empty_masks(masks, part)),
            settings={**result.settings, **_ties(part)},
            seconds=time.perf_counter() - start,
        )
        return EditResult(image=image, mask=mask, masks=masks, trace=trace)

    return join_results(in_parts(one, request, config.chunk))


def in_parts(function: Callable[[slice], T], request: EditRequest, chunk: int | None) -> list[T]:
    """Call a function on consecutive images of a request, as many at a time as fit; those that share stay together.

    Args:
        function: receives a slice of the images.
        request: says whether they share attention.
        chunk: longest slice; None = all at once.

    Raises:
        InputError: if images that share attention do not fit into a slice, or into memory.
    """
    total = len(request.image)
    if request.sharing is None or total == 1:
        return in_chunks(function, total, chunk=chunk)
    if chunk is not None and chunk < total:
        raise InputError(
            f"{total} views share attention and must run together, but chunk is {chunk}: raise it, edit fewer views "
            "together, or share none"
        )
    try:
        return [function(slice(0, total))]
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{total} views that share attention do not fit into memory together: edit fewer at a time, or share none"
        ) from error


def _ties(request: EditRequest) -> dict[str, object]:
    """What tied the images of a request together, for the trace."""
    ties: dict[str, object] = {}
    if request.noise is not None:
        ties["noise"] = request.noise.settings
    if request.sharing is not None:
        ties["sharing"] = asdict(request.sharing)
    return ties


def _notes(request: EditRequest) -> tuple[str, ...]:
    """What planning had to say."""
    return tuple(each.note for each in request.instructions if each.note)


def _empty_masks(masks: Sequence[Mask], request: EditRequest) -> tuple[str, ...]:
    """A word on masks that leave an instruction nowhere to act: given empty, or shrunk to nothing."""
    empty = torch.stack([mask.amax((1, 2, 3)) == 0 for mask in masks]).tolist()
    return tuple(
        f"the mask of {instruction.text!r} is empty in {sum(row)} of {len(row)} pictures: it changes nothing there"
        for instruction, row in zip(request.instructions, empty, strict=True)
        if any(row)
    )
