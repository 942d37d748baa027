"""What stands around an image model: who reads the instruction, describes the picture and finds the objects.

Each is loaded when it is first needed, beside the editor's own checkpoint, and stays loaded.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch

from ..core.backbone import Backbone
from ..core.checkpoint import EMBEDDED
from ..core.chunking import in_chunks
from ..core.errors import InputError
from ..core.types import Mask
from .caption_options import CaptionConfig
from .caption_pass import Inverter
from .captioner import Captioner, load_captioner
from .grounding import Found, Grounder, load_grounder
from .grounding_options import CaptionerConfig, GroundingConfig
from .keywords import choose_keyword
from .language import LanguageProcessor, ParseError, make_language
from .language_options import LanguageConfig
from .masks import union
from .options import FoIConfig
from .reading import is_open, read_instructions, take_apart
from .request import EditRequest, Instruction, PhraseTrace


class Tools:
    """The language processor, the captioner and the segmenter of an editor, and the inversions it remembers.

    An editor with other settings on the same weights goes on with the same tools.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        language: LanguageConfig | LanguageProcessor,
        captioner: CaptionerConfig | Captioner | None = None,
        grounding: GroundingConfig | Grounder | None = None,
        api_key: str | None = None,
    ) -> None:
        """Load from configurations when needed, or use what is given.

        Args:
            backbone: says where models are looked for, and on which device they run.
            language: who reads instructions.
            captioner: who describes pictures; None = nobody.
            grounding: who finds objects; None = nobody.
            api_key: key of a language server; None = from the environment.
        """
        self._backbone, self._api_key = backbone, api_key
        self._language, self._captioner, self._grounding = language, captioner, grounding

    @cached_property
    def language(self) -> LanguageProcessor:
        """Who reads instructions."""
        if not isinstance(self._language, LanguageConfig):
            return self._language
        origin = self._backbone.origin
        return make_language(
            self._language,
            api_key=self._api_key,
            device=self._backbone.device,
            model_dir=origin.model_dir,
            offline=origin.offline,
        )

    @cached_property
    def captioner(self) -> Captioner | None:
        """Who describes pictures, if anyone."""
        if not isinstance(self._captioner, CaptionerConfig):
            return self._captioner
        if not self._captioner.enabled:
            return None
        origin = self._backbone.origin
        return load_captioner(
            self._captioner, device=self._backbone.device, model_dir=origin.model_dir, offline=origin.offline
        )

    @cached_property
    def grounder(self) -> Grounder:
        """Who finds objects."""
        if self._grounding is None:
            raise RuntimeError("this editor looks for no objects")
        if not isinstance(self._grounding, GroundingConfig):
            return self._grounding
        origin = self._backbone.origin
        return load_grounder(
            self._grounding,
            device=self._backbone.device,
            model_dir=origin.model_dir,
            offline=origin.offline,
            embedded=self._backbone.name == EMBEDDED,
        )

    @cached_property
    def inverter(self) -> Inverter:
        """Who inverts pictures, and remembers the paths of a scene's photos."""
        return Inverter(self._backbone)


def tools_of(config: FoIConfig | CaptionConfig, backbone: Backbone, *, api_key: str | None = None) -> Tools:
    """The tools an editor's options name, as many of them as it has.

    Args:
        config: an editor's options.
        backbone: says where models are looked for, and on which device they run.
        api_key: key of a language server; None = from the environment.
    """
    return Tools(
        backbone,
        language=config.language,
        captioner=getattr(config, "captioner", None),
        grounding=getattr(config, "grounding", None),
        api_key=api_key,
    )


def plan_request(request: EditRequest, tools: Tools, *, wants_phrases: bool, wants_regions: bool) -> EditRequest:
    """The request with captions and, where the editor looks for objects, phrases; what is there already stays.

    Args:
        request: what to do.
        tools: who reads and describes.
        wants_phrases: whether phrases are of use.
        wants_regions: whether each instruction's region may follow captions of its own. Captions that are given hold
            for all regions, and a mask of the request is one region.

    Raises:
        ParseError: if an instruction cannot be understood.
    """
    lacks_phrases = wants_phrases and request.mask is None and any(_lacks_phrases(i) for i in request.instructions)
    if request.captions and not lacks_phrases:
        return request
    described: Sequence[str | None] = (None,) * len(request.image)
    if tools.captioner is not None:
        described = tools.captioner.describe(request.preserved)
    is_one_region = request.mask is not None and all(i.mask is None for i in request.instructions)
    instructions, captions = read_instructions(
        request.instructions,
        tools.language,
        described,
        wants_phrases=lacks_phrases,
        wants_regions=wants_regions and not request.captions and not is_one_region,
    )
    return replace(request, instructions=instructions, captions=request.captions or captions)


def _lacks_phrases(instruction: Instruction) -> bool:
    return instruction.phrases is None and instruction.mask is None


def split_instruction(instruction: Instruction, tools: Tools) -> tuple[Instruction, ...]:
    """An instruction that asks for several edits as several, each with its keyword; any other one with its own.

    So an instruction that was looked at has a keyword, and is not looked at again.

    Args:
        instruction: one that already has a keyword, phrases, captions or a mask is taken as a whole.
        tools: who reads; what they do not understand is taken as a whole, with a note that says so.
    """
    if not is_open(instruction):
        return (instruction,)
    whole = replace(instruction, keyword=choose_keyword(instruction.text))
    try:
        edits = tools.language.parse(instruction.text).edits
    except ParseError as error:
        note = f"{instruction.text!r} is carried out as one edit, it could not be taken apart: {error.problem}"
        return (replace(whole, note=note),)
    return (whole,) if len(edits) == 1 else take_apart(instruction, edits)


def ground_request(
    request: EditRequest, tools: Tools, *, global_edit: bool, chunk: int | None
) -> tuple[EditRequest, tuple[tuple[PhraseTrace, ...], ...]]:
    """The request with a mask for every instruction, found in the pictures that are to be preserved.

    Args:
        request: planned.
        tools: who finds.
        global_edit: take the whole picture instead of looking.
        chunk: most pictures at once.

    Returns:
        The request with masks, and for each picture what was found.

    Raises:
        NothingFoundError: if a phrase has no answer in a picture.
        InputError: if an instruction names no object and the whole picture may not change.
    """
    if request.mask is not None or all(i.mask is not None for i in request.instructions):
        return request, ()
    pictures = request.preserved
    if global_edit:
        whole = torch.ones_like(pictures[:, :1])
        return _with_masks(request, [whole] * len(request.instructions)), ()
    for instruction in request.instructions:
        if instruction.mask is None and not all(instruction.phrases_in(row) for row in range(len(pictures))):
            raise InputError(
                f"{instruction.text!r} names no object to look for: pass --global-edit to change the whole picture, "
                "or a mask"
            )
    found = _find_all(request, tools.grounder, chunk)
    masks = [
        torch.cat([union([found[row][p].mask[None] for p in i.phrases_in(row)]) for row in range(len(pictures))])
        if i.mask is None
        else None
        for i in request.instructions
    ]
    return _with_masks(request, masks), tuple(tuple(_trace(one) for one in row.values()) for row in found)


def ground_phrases(
    request: EditRequest, tools: Tools, *, chunk: int | None
) -> tuple[EditRequest, tuple[tuple[PhraseTrace, ...], ...]]:
    """The request with masks for the instructions that name phrases; the others may act anywhere.

    Args:
        request: what to do, for an editor that looks for no objects of its own accord.
        tools: who finds.
        chunk: most pictures at once.

    Returns:
        The request, and for each picture what was found.

    Raises:
        NothingFoundError: if a phrase has no answer in a picture.
    """
    asks = [i.mask is None and bool(i.phrases or i.phrases_by_image) for i in request.instructions]
    if request.mask is not None or not any(asks):
        return request, ()
    asked = tuple(each for each, does in zip(request.instructions, asks, strict=True) if does)
    found, traces = ground_request(replace(request, instructions=asked), tools, global_edit=False, chunk=chunk)
    masked = iter(found.instructions)
    every = tuple(next(masked) if does else each for each, does in zip(request.instructions, asks, strict=True))
    return replace(request, instructions=every), traces


def _find_all(request: EditRequest, grounder: Grounder, chunk: int | None) -> list[dict[str, Found]]:
    """What is found for each phrase, picture by picture; pictures with the same phrases are searched together."""
    pictures, open_ones = request.preserved, [i for i in request.instructions if i.mask is None]
    wanted = [
        tuple(dict.fromkeys(phrase for each in open_ones for phrase in each.phrases_in(row)))
        for row in range(len(pictures))
    ]
    found: list[dict[str, Found]] = [{} for _ in wanted]
    for phrases in dict.fromkeys(wanted):
        rows = [row for row, own in enumerate(wanted) if own == phrases]
        group = pictures if len(rows) == len(pictures) else pictures[rows]
        parts = in_chunks(lambda part: grounder.ground(group[part], phrases), len(rows), chunk=chunk)  # noqa: B023
        for row, answers in zip(rows, (answers for part in parts for answers in part), strict=True):
            found[row] = dict(zip(phrases, answers, strict=True))
    return found


def _with_masks(request: EditRequest, masks: Sequence[Mask | None]) -> EditRequest:
    pairs = zip(request.instructions, masks, strict=True)
    return replace(
        request,
        instructions=tuple(replace(i, mask=mask) if i.mask is None and mask is not None else i for i, mask in pairs),
    )


def _trace(found: Found) -> PhraseTrace:
    boxes = tuple(tuple(round(value, 2) for value in box) for box in found.boxes.tolist())
    return PhraseTrace(phrase=found.phrase, boxes=boxes, scores=tuple(round(s, 4) for s in found.scores.tolist()))
