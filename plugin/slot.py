"""What the editor of single pictures is asked about a view of a scene.

What an edit starts from and what it keeps follows Instruct-NeRF2NeRF (arXiv 2303.12789): the noise is put on the
current render, the condition is the ORIGINAL photo, never an earlier edit, so that edits do not compound.

InstructEdit (arXiv 2305.18047, section 4.6) has no condition channel: it inverts the current render, and what it puts
back outside the mask, and the mask itself, come from the ORIGINAL photo. Its noise is that of the inversion, so none is
drawn. Phrases and captions are planned once for the scene, see `plan.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..editors import Captions, Editor, EditorName, EditRequest, Image, Instruction, Mask, NothingFoundError
from .storage import from_bytes
from .update import EditTurn


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user may change while the run goes on."""

    instructions: tuple[Instruction, ...]
    guidance_scale: float | None = None
    """None = as configured."""
    image_guidance_scale: float | None = None
    editor: EditorName | None = None
    """None = the one that is configured."""
    is_paused: bool = False
    captions: tuple[Captions, ...] = ()
    """One for all photos; set by the plan."""


@dataclass(kw_only=True)
class EditView:
    """A view on its way through the editor."""

    turn: EditTurn
    original: UInt8[Tensor, "height width 3"]
    render: Image
    masks: tuple[UInt8[Tensor, "height width"], ...] = ()
    files: tuple[str, ...] = ()
    """Where the masks are stored already; empty = not yet."""
    points: Float[Tensor, "rows columns 3"] | None = None
    """Where the rays of its pixels meet the scene; None = not known."""


def find_masks(editor: Editor, request: EditRequest) -> tuple[Mask, ...]:
    """The mask of each instruction; an instruction whose object is not in view gets an empty one.

    Raises:
        NothingFoundError: if no instruction finds anything.
    """
    try:
        return editor.find_masks(request)
    except NothingFoundError:
        if len(request.instructions) == 1:
            raise
    masks: list[Mask] = []
    errors: list[NothingFoundError] = []
    for instruction in request.instructions:
        try:
            masks += editor.find_masks(replace(request, instructions=(instruction,)))
        except NothingFoundError as error:
            errors.append(error)
            masks.append(torch.zeros_like(request.image[:, :1]))
    if len(errors) == len(masks):
        raise errors[0]
    return tuple(masks)


def mask_request(view: EditView, settings: Settings) -> EditRequest:
    """What masks are found in: the photo, at the editor's own noise level.

    A render would carry earlier edits, and a level drawn for the edit may be too low for attention to tell where the
    object is.
    """
    return EditRequest(
        image=as_image(view.original),
        instructions=settings.instructions,
        seeds=(view.turn.seed,),
        captions=settings.captions,
    )


def batch_request(views: Sequence[EditView], settings: Settings, draws_noise: bool) -> EditRequest:
    """What is asked for some views at once: each from its render, inside its masks, for its photo.

    Args:
        views: with masks.
        settings: planned.
        draws_noise: whether the editor starts from a noise level that is drawn for each edit.
    """
    instructions = tuple(
        replace(each, mask=torch.stack([from_bytes(view.masks[k])[None] for view in views]))
        for k, each in enumerate(settings.instructions)
    )
    return EditRequest(
        image=torch.cat([view.render for view in views]),
        condition=torch.cat([as_image(view.original) for view in views]),
        instructions=instructions,
        seeds=tuple(view.turn.seed for view in views),
        captions=settings.captions,
        # An editor that inverts the picture adds no noise; its own ratio makes it the very editor of single pictures.
        noise_levels=tuple(view.turn.noise_level for view in views) if draws_noise else None,
    )


def as_image(photo: UInt8[Tensor, "height width 3"]) -> Image:
    """A photo as editors take it."""
    return from_bytes(photo).permute(2, 0, 1)[None]
