"""The common body of the editors that read captions: settings, tools, planning, and masks found by grounding."""

import time
from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar, Generic, TypeVar

from ..core.backbone import Backbone
from ..core.types import Mask
from .canvas import PassResult, edit_on_canvas, given_or_whole, masks_on_canvas
from .caption_options import CaptionConfig, InpaintConfig, InstructEditConfig
from .caption_pass import resolve_captions
from .editor_names import EDITORS, EditorName
from .request import EditRequest, EditResult, PhraseTrace
from .tools import Tools, ground_request, plan_request

ConfigT = TypeVar("ConfigT", bound=CaptionConfig)
GroundedT = TypeVar("GroundedT", InstructEditConfig, InpaintConfig)


class CaptionEditor(Generic[ConfigT]):
    """An editor on captions; a subclass names itself and supplies its pass and its masks."""

    name: ClassVar[EditorName]
    has_regions: ClassVar[bool] = True
    """Whether the region of each of several instructions follows captions of its own."""

    def __init__(self, backbone: Backbone, config: ConfigT, tools: Tools) -> None:
        """Edit with a checkpoint.

        Args:
            backbone: the checkpoint.
            config: settings.
            tools: who reads instructions, describes pictures and finds objects.

        Raises:
            ModelError: if the checkpoint is of another kind than the editor needs.
        """
        backbone.require(EDITORS[self.name].kind, self.name)
        self.backbone, self.config, self.tools = backbone, config, tools
        self.settings = resolve_captions(config, backbone.preset.caption)

    def plan(self, request: EditRequest) -> EditRequest:
        """The request with captions.

        Raises:
            ParseError: if an instruction cannot be understood.
        """
        return plan_request(request, self.tools, wants_phrases=False, wants_regions=self.has_regions)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit a batch of images.

        Raises:
            NothingFoundError: if there is nothing to edit.
        """
        return edit_on_canvas(self.plan(request), self.backbone, self.config, self._run, name=self.name)

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """The masks an edit of the same request would use; ones where the editor may change anything.

        Raises:
            NothingFoundError: if there is nothing to edit.
        """
        return masks_on_canvas(self.plan(request), self.backbone, self.config, self._find)

    def _find(self, request: EditRequest) -> tuple[Mask, ...]:
        """Masks of a planned request at working size."""
        return given_or_whole(request)

    @abstractmethod
    def _run(self, request: EditRequest) -> PassResult:
        """Edit a planned request at working size."""


class GroundedEditor(CaptionEditor[GroundedT]):
    """An editor on captions that looks for the objects of an instruction, at the size of the picture itself."""

    def plan(self, request: EditRequest) -> EditRequest:
        """The request with captions and what to segment; clauses that name different objects become instructions.

        Raises:
            ParseError: if an instruction cannot be understood.
        """
        # Where the whole picture changes, there is one region, and nothing to look for.
        looks = not self.config.global_edit
        return plan_request(request, self.tools, wants_phrases=looks, wants_regions=looks)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit a batch of images; each instruction acts where its objects are found, and follows its own caption there.

        Raises:
            NothingFoundError: if an object is not found.
        """
        start = time.perf_counter()
        found, grounding = self._ground(request)
        result = edit_on_canvas(found, self.backbone, self.config, self._run, name=self.name)
        seconds = time.perf_counter() - start
        return replace(result, trace=replace(result.trace, grounding=grounding, seconds=seconds))

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """The masks an edit of the same request would use; no diffusion model runs.

        Raises:
            NothingFoundError: if an object is not found.
        """
        return masks_on_canvas(self._ground(request)[0], self.backbone, self.config, given_or_whole)

    def _ground(self, request: EditRequest) -> tuple[EditRequest, tuple[tuple[PhraseTrace, ...], ...]]:
        config = self.config
        return ground_request(self.plan(request), self.tools, global_edit=config.global_edit, chunk=config.chunk)
