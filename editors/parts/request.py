"""What goes into an editor and what comes out; every editor takes and returns the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.consistency import NoiseSource, ViewSharing
from ..core.errors import InputError
from ..core.types import Image, Mask

KeepOutside = Literal["exact", "paper"]
"""`exact`: pixels outside the mask equal the condition image; `paper`: whatever the published method gives."""

STRENGTH_RANGE = (-10.0, 10.0)
MOST_SCALE = 4.0


@dataclass(frozen=True, kw_only=True)
class Captions:
    """What a picture shows before and after an edit, for editors on models that read captions."""

    source: str
    """The picture as it is; may be empty."""
    target: str
    """The picture as it is meant to become."""

    def __post_init__(self) -> None:
        if not self.target.strip():
            raise InputError(
                "expected a caption of the edited picture, got an empty text: describe it, e.g. 'photo of a blue cube'"
            )


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One thing to do to the picture, with its own region."""

    text: str
    """What to do, e.g. `make the red cube blue`."""
    keyword: str | None = None
    """Words of the text that name the object to edit or to add; None = chosen by the editor."""
    strength: float = 1.0
    """How much this instruction is emphasised (alpha in FoI); 0 = not, negative = suppressed."""
    phrases: tuple[str, ...] | None = None
    """What to segment, for editors that look for objects; () = the whole picture, None = the language processor
    decides."""
    phrases_by_image: tuple[tuple[str, ...], ...] = ()
    """The same for each image, where what its description says makes that differ; () = `phrases` for all."""
    captions: tuple[Captions, ...] = ()
    """What its own region shows before and after, for editors that read captions: one for each image, or one for all;
    () = the request's."""
    note: str = ""
    """What planning has to say about it; an edit repeats it among its warnings."""
    mask: Mask | None = None
    """Where this instruction may act, one mask per image; None = found by the editor."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InputError(
                "expected an instruction, got an empty text: say what to change, e.g. 'make the cube blue'"
            )
        low, high = STRENGTH_RANGE
        if not low <= self.strength <= high:
            raise InputError(f"strength must be in [{low:g}, {high:g}], got {self.strength:g} for {self.text!r}")
        if self.keyword is not None and self.keyword.casefold() not in self.text.casefold():
            raise InputError(
                f"keyword {self.keyword!r} does not occur in {self.text!r}: use words of the instruction itself"
            )

    def phrases_in(self, row: int) -> tuple[str, ...]:
        """What to segment in one of the images."""
        return self.phrases_by_image[row] if self.phrases_by_image else self.phrases or ()


@dataclass(frozen=True, kw_only=True)
class EditRequest:
    """A batch of images to edit with the same instructions.

    Raises:
        InputError: if sizes or counts do not fit; the annotations leave that to a message that says what to do.
    """

    image: Image
    """What the noise starts from: a photo or, in a scene, the current render."""
    condition: Float[Tensor, "batch2 3 height2 width2"] | None = None
    """What must be preserved and is conditioned on: in a scene, the original photo; None = `image`."""
    instructions: tuple[Instruction, ...]
    mask: Float[Tensor, "batch3 1 height3 width3"] | None = None
    """Where anything may change; overrides every automatic mask, for every editor."""
    seeds: tuple[int, ...] = ()
    """One seed per image; empty = 0, 1, 2, ..."""
    captions: tuple[Captions, ...] = ()
    """For editors that read captions: one for each image, or one for all; () = the language processor writes them."""
    scale: float = 1.0
    """Working size as a multiple of the editor's own, in (0, 4]: more than 1 for a picture that shows more than those
    the editor is used to, so that the things in it are as large as it knows them."""
    noise_levels: tuple[float, ...] | None = None
    """Share of the training timesteps each image starts from, in (0, 1]; None = the editor's own. Iterative dataset
    updates draw it anew for every edit."""
    noise: NoiseSource | None = None
    """Where the noise that is put on the images comes from; None = from their seeds. Noise that a sampler adds later is
    each image's own."""
    filled: tuple[float, float] = (1.0, 1.0)
    """Share of the images' height and width that is picture; set where they are padded on the right and below."""
    sharing: ViewSharing | None = None
    """How the images, which then run as one batch, share self-attention; None = each has its own."""

    def __post_init__(self) -> None:
        batch = len(self.image)
        if not batch:
            raise InputError("expected at least one image, got none")
        if not self.instructions:
            raise InputError("expected at least one instruction, got none")
        if not self.seeds:
            object.__setattr__(self, "seeds", tuple(range(batch)))
        if len(self.seeds) != batch:
            raise InputError(f"expected one seed per image ({batch}), got {len(self.seeds)}")
        if not 0 < self.scale <= MOST_SCALE:
            raise InputError(f"the scale of an edit must be in (0, {MOST_SCALE:g}], got {self.scale:g}")
        if self.noise_levels is not None:
            if len(self.noise_levels) != batch:
                raise InputError(f"expected one noise level per image ({batch}), got {len(self.noise_levels)}")
            if not all(0 < level <= 1 for level in self.noise_levels):
                raise InputError(f"noise levels must be in (0, 1], got {self.noise_levels}")
        object.__setattr__(self, "captions", _spread(self.captions, batch))
        object.__setattr__(self, "instructions", tuple(_fit(each, batch) for each in self.instructions))
        if self.condition is not None and self.condition.shape != self.image.shape:
            raise InputError(_size_message("condition image", self.image, self.condition))
        masks = [("mask", self.mask)] + [(f"mask of {i.text!r}", i.mask) for i in self.instructions]
        for name, mask in masks:
            if mask is not None and (len(mask), *mask.shape[-2:]) != (batch, *self.image.shape[-2:]):
                raise InputError(_size_message(name, self.image, mask))

    @property
    def preserved(self) -> Image:
        """The image that must be preserved outside the mask."""
        return self.image if self.condition is None else self.condition

    @property
    def region_captions(self) -> tuple[tuple[Captions, ...], ...]:
        """For each instruction the captions of its region, one for each image; () = all go by the request's.

        Regions that are one and the same, the request's mask, cannot follow several captions.
        """
        if not any(each.captions for each in self.instructions):
            return ()
        if self.mask is not None and all(each.mask is None for each in self.instructions):
            return ()
        return tuple(each.captions or self.captions for each in self.instructions)

    def rows(self, rows: slice) -> "EditRequest":
        """The same request for some of the images."""
        return replace(
            self,
            image=self.image[rows],
            condition=None if self.condition is None else self.condition[rows],
            instructions=tuple(_rows_of(each, rows) for each in self.instructions),
            mask=None if self.mask is None else self.mask[rows],
            seeds=self.seeds[rows],
            captions=self.captions[rows],
            noise_levels=None if self.noise_levels is None else self.noise_levels[rows],
            noise=None if self.noise is None else self.noise.rows(rows),
        )


def _spread(captions: tuple[Captions, ...], batch: int) -> tuple[Captions, ...]:
    if len(captions) == 1:
        return captions * batch
    if len(captions) not in (0, batch):
        raise InputError(f"expected captions for one image, or for each of {batch}, got {len(captions)}")
    return captions


def _fit(instruction: Instruction, batch: int) -> Instruction:
    """The instruction with what it says of single images said of each of them."""
    if len(instruction.phrases_by_image) not in (0, batch):
        raise InputError(
            f"expected phrases for each of {batch} images or none, got {len(instruction.phrases_by_image)} for "
            f"{instruction.text!r}"
        )
    captions = _spread(instruction.captions, batch)
    return instruction if captions == instruction.captions else replace(instruction, captions=captions)


def _rows_of(instruction: Instruction, rows: slice) -> Instruction:
    return replace(
        instruction,
        phrases_by_image=instruction.phrases_by_image[rows],
        captions=instruction.captions[rows],
        mask=None if instruction.mask is None else instruction.mask[rows],
    )


def _size_message(name: str, image: Image, other: Float[Tensor, "batch2 channels height2 width2"]) -> str:
    (batch, _, height, width), (count, _, other_height, other_width) = image.shape, other.shape
    return (
        f"expected the {name} as large as the image, {batch} of {width}x{height} pixels, "
        f"got {count} of {other_width}x{other_height}: resize it first"
    )


@dataclass(frozen=True, kw_only=True)
class PhraseTrace:
    """What was found for a phrase in a picture."""

    phrase: str
    boxes: tuple[tuple[float, ...], ...]
    """Candidates in pixels: x1, y1, x2, y2."""
    scores: tuple[float, ...]
    """Of the candidates, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class EditTrace:
    """How a result came about; everything in it can be written as JSON."""

    editor: str
    prompt: str = ""
    """The text the model saw; where each picture has its own captions, that of the first; where each region has, that
    of all of them together."""
    keywords: tuple[str, ...] = ()
    captions: tuple[Captions, ...] = ()
    """Of each picture, where the editor reads captions."""
    region_captions: tuple[tuple[Captions, ...], ...] = ()
    """For each picture those that the region of each instruction followed, where each has its own."""
    grounding: tuple[tuple[PhraseTrace, ...], ...] = ()
    """For each picture what was found for each phrase, where the editor looks for objects."""
    timesteps: tuple[int, ...] = ()
    """Training timesteps visited for the first image."""
    seconds: float = 0.0
    mask_area: tuple[float, ...] = ()
    """Share of each picture inside the mask."""
    outside_change: tuple[float, ...] = ()
    """Mean absolute change outside the mask of each returned picture against the condition image, in [0, 1]."""
    outside_change_unkept: tuple[float, ...] = ()
    """The same before pixels outside the mask were put back: what the model alone would have changed."""
    warnings: tuple[str, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)
    """The settings as used, presets resolved."""

    def of_image(self, row: int, count: int) -> "EditTrace":
        """The trace of one image of a batch of `count`, with its share of the time."""
        own = {name: getattr(self, name)[row : row + 1] for name in PER_IMAGE}
        prompt = self.captions[row].target if self.captions else self.prompt
        return replace(self, prompt=prompt, seconds=self.seconds / count, **own)


PER_IMAGE = ("captions", "region_captions", "grounding", "mask_area", "outside_change", "outside_change_unkept")
"""Fields of a trace that have a value for each image, unless they are empty."""


@dataclass(frozen=True, kw_only=True)
class EditResult:
    """Edited images with the masks that were used."""

    image: Image
    mask: Mask
    """Union of all masks, as used at the picture's resolution (feathered if so asked)."""
    masks: tuple[Mask, ...]
    """One per instruction, in the order of the request."""
    trace: EditTrace


@runtime_checkable
class Editor(Protocol):
    """What every editor can do."""

    def plan(self, request: EditRequest) -> EditRequest:
        """The request with what language can say about it decided: instructions split, phrases, captions.

        A planned request stays as it is, so that one plan can serve many pictures, and an interrupted run. `edit` and
        `find_masks` plan what is not planned yet; who needs the plan itself makes it first and hands it on.
        """
        ...

    def edit(self, request: EditRequest) -> EditResult:
        """Edit a batch of images; masks come in the order of the planned request's instructions."""
        ...

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """Where each instruction of the planned request would act, without editing.

        These are the masks before `mask_dilate` and `mask_feather`: given back with a request, an edit finishes them
        once.
        """
        ...


def join_results(results: Sequence[EditResult]) -> EditResult:
    """One result from the results of consecutive parts of a batch."""
    if len(results) == 1:
        return results[0]
    first = results[0]
    return EditResult(
        image=torch.cat([r.image for r in results]),
        mask=torch.cat([r.mask for r in results]),
        masks=tuple(torch.cat([r.masks[k] for r in results]) for k in range(len(first.masks))),
        trace=replace(
            first.trace,
            seconds=sum(r.trace.seconds for r in results),
            **{name: tuple(v for r in results for v in getattr(r.trace, name)) for name in PER_IMAGE},
            warnings=tuple(dict.fromkeys(w for r in results for w in r.trace.warnings)),
        ),
    )
