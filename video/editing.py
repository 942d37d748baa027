"""The edit of a clip: its canonical images, handed to any image editor.

Source: CoDeF (arXiv 2308.07926), section 3.4, where one canonical image is edited outside the program. Differs from the
paper: all layers and segments are edited together, in one sheet; only what frames show may change; and a mask can be
painted on a frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..editors import (
    Captions,
    Editor,
    EditRequest,
    EditResult,
    EditTrace,
    Image,
    InputError,
    Instruction,
    Mask,
    NothingFoundError,
    composite,
)
from .canonical import CanonicalImage
from .fields import FieldShape
from .frame_mask import FrameMask, carry_mask
from .segments import Segment
from .sheet import Sheet, lay_out

MOST_SCALE = 2.0
"""How many times larger than its own size an editor works at most: time and memory grow with the square."""
Arrange = Literal["sheet", "batch"]
"""`sheet`: all canonical images in one picture, so that they change alike; `batch`: each alone, all from one seed."""


@dataclass(frozen=True, kw_only=True)
class EditedLayer:
    """The canonical image of a layer before and after, all three of the whole canonical size."""

    original: Image
    edited: Image
    """Blended with the original by the mask; equal to it where no frame looks."""
    mask: Mask
    """How far it is the edit, in [0, 1]; 0 where no frame looks."""


@dataclass(frozen=True, kw_only=True)
class EditedClip:
    """What an edit made of the canonical images of a clip."""

    segments: tuple[tuple[EditedLayer, ...], ...]
    """For each segment its layers."""
    traces: tuple[EditTrace, ...]
    """How it came about: one for a sheet, one for each canonical image otherwise."""
    sheet: Image
    """All canonical images that may change, in one picture."""
    sheet_mask: Mask
    """The mask of it."""
    sheet_edited: Image
    """The same, edited."""


def edit_segments(
    segments: Sequence[Segment],
    editor: Editor,
    instructions: Sequence[Instruction],
    *,
    seed: int = 0,
    captions: Sequence[Captions] = (),
    mask: FrameMask | None = None,
    arrange: Arrange = "sheet",
    only_layers: Sequence[int] | None = None,
    keep_scale: bool = True,
) -> EditedClip:
    """Edit the canonical images of all segments.

    Args:
        segments: of the clip, in its order.
        editor: any.
        instructions: what to do.
        seed: of the edit's noise.
        captions: before and after, for editors that read them; () = the language processor writes them.
        mask: where anything may change, painted on one frame; None = the editor decides.
        arrange: in one picture or each alone.
        only_layers: layers that may change, counted from 0 = the first; None = all. Others are not shown to the editor.
        keep_scale: whether the editor sees things as large as it would in a frame, by working at a larger size; else
            the sheet is shrunk to the editor's own size. A sheet of very many pictures is shrunk all the same.

    Raises:
        NothingFoundError: if the editor finds nothing in any canonical image.
        InputError: if the mask marks nothing, or there is no such layer.
    """
    layers = len(segments[0].fit.layers)
    named = sorted(set(range(layers) if only_layers is None else only_layers))
    if not named or not set(named) <= set(range(layers)):
        raise InputError(f"expected layers from 0 to {layers - 1}, got {named}: name other layers")
    # What may not change is kept out of the sheet, or else an editor could find what it looks for there and only there.
    places = [(n, layer) for n in range(len(segments)) for layer in named]
    shown = [segments[n].canonical(layer) for n, layer in places]
    pictures = [_cut(each.image, each) for each in shown]
    masks = None
    if mask is not None:
        carried = carry_mask(mask, segments)
        masks = [_cut(carried[n][layer], each) for (n, layer), each in zip(places, shown, strict=True)]
    if masks is not None and not any(bool((each > 0).any()) for each in masks):
        raise InputError(f"the mask marks nothing of the layers {named}: choose others, or another mask")
    sheet = lay_out(pictures)
    task = _Task(editor, tuple(instructions), tuple(captions), seed, segments[0].fit.shape if keep_scale else None)
    if arrange == "sheet":
        result = task.run(sheet.image, None if masks is None else sheet.join(masks))
        whole, whole_mask, traces = result.image, result.mask, (result.trace,)
    else:
        whole, whole_mask, traces = _edit_alone(task, sheet, pictures, masks)
    parts = zip(places, shown, sheet.apart(whole), sheet.apart(whole_mask), strict=True)
    changed = {place: _finish(each, edited, found) for place, each, edited, found in parts}
    return EditedClip(
        segments=tuple(
            tuple(changed.get((n, layer)) or _leave(segment.canonical(layer)) for layer in range(layers))
            for n, segment in enumerate(segments)
        ),
        traces=traces,
        sheet=sheet.image,
        sheet_mask=whole_mask,
        sheet_edited=whole,
    )


@dataclass(frozen=True)
class _Task:
    """What is asked of the editor."""

    editor: Editor
    instructions: tuple[Instruction, ...]
    captions: tuple[Captions, ...]
    seed: int
    frame: FieldShape | None
    """Whose scale is kept; None = none's."""

    def run(self, picture: Image, mask: Mask | None) -> EditResult:
        scale = 1.0
        if self.frame is not None:
            longest = max(picture.shape[-2:]) / max(self.frame.height, self.frame.width)
            # A picture that shows less than a frame is not worked on smaller: that would only lose detail.
            scale = min(max(1.0, longest), MOST_SCALE)
        request = EditRequest(
            image=picture,
            instructions=self.instructions,
            mask=mask,
            seeds=(self.seed,),
            captions=self.captions,
            scale=scale,
        )
        result = self.editor.edit(request)
        image, where = result.image.to(picture.device), result.mask.to(picture.device)
        if not torch.equal(image * (where == 0), picture * (where == 0)):
            # An editor that was told to keep nothing has not blended by its mask either.
            image = composite(image, picture, where)
        return replace(result, image=image, mask=where)


def _edit_alone(
    task: _Task,
    sheet: Sheet,
    pictures: Sequence[Float[Tensor, "1 3 _ _"]],
    masks: Sequence[Float[Tensor, "1 1 _ _"]] | None,
) -> tuple[Image, Mask, tuple[EditTrace, ...]]:
    """Edit each picture by itself; one that does not show what is looked for stays as it is."""
    edited, found = list(pictures), [torch.zeros_like(picture[:, :1]) for picture in pictures]
    traces: list[EditTrace] = []
    missing: NothingFoundError | None = None
    for number, picture in enumerate(pictures):
        mask = None if masks is None else masks[number]
        if mask is not None and not bool((mask > 0).any()):
            continue
        try:
            result = task.run(picture, mask)
        except NothingFoundError as error:
            missing = error
            continue
        edited[number], found[number] = result.image, result.mask
        traces.append(result.trace)
    if missing is not None and not traces:
        raise missing
    between = sheet.join([torch.ones_like(each) for each in found]) == 0
    return torch.where(between, sheet.image, sheet.join(edited)), sheet.join(found), tuple(traces)


def _cut(
    values: Float[Tensor, "1 channels canonical_height canonical_width"], shown: CanonicalImage
) -> Float[Tensor, "1 channels height width"]:
    rows, columns = shown.box
    return values[:, :, rows, columns]


def _finish(shown: CanonicalImage, edited: Image, mask: Mask) -> EditedLayer:
    """An edit of what is seen, put back into the whole canonical image."""
    rows, columns = shown.box
    change, where = torch.zeros_like(shown.image), torch.zeros_like(shown.image[:, :1])
    change[:, :, rows, columns] = (edited - shown.image[:, :, rows, columns]) * (mask > 0)
    where[:, :, rows, columns] = mask
    seen = shown.seen
    both = _spread(torch.cat([change, where], 1) * seen, seen)
    return EditedLayer(original=shown.image, edited=shown.image + both[:, :3], mask=both[:, 3:])


def _leave(shown: CanonicalImage) -> EditedLayer:
    """A canonical image that may not change."""
    return EditedLayer(original=shown.image, edited=shown.image, mask=torch.zeros_like(shown.image[:, :1]))


def _spread(
    values: Float[Tensor, "1 channels height width"], seen: Bool[Tensor, "1 1 height width"]
) -> Float[Tensor, "1 channels height width"]:
    """Values with the mean of their neighbours on the pixels beside what is seen, and nothing farther out.

    Frames are sampled between pixels: without these, the edit would fade at its border.
    """
    weight = F.avg_pool2d(seen.to(values.dtype), 3, 1, 1, count_include_pad=True)
    around = F.avg_pool2d(values, 3, 1, 1, count_include_pad=True) / weight.clamp(min=1e-3)
    return torch.where(seen, values, around * (weight > 0))
