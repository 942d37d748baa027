"""What the editors on brushes share: the brush, its place in the prompt, phrases that confine it, one run.

An instruction of a request that is the brush's name or its initial text means the brush; any other one is said beside
it. So a scene or a clip is edited by a brush with its name as the instruction.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property

from ..core.backbone import Backbone
from ..core.bases import fingerprint_checkpoint
from ..core.checkpoint import InstructPreset
from ..core.errors import InputError
from ..core.guidance import InstructGuidance
from ..core.types import Mask
from .brush import Brush, load_brush
from .brush_options import BrushConfig, BrushKind
from .brush_rows import LayerRows, LearnedRows, brush_prompt, check_fit, layers_of, segment_of
from .canvas import PassResult, edit_on_canvas, given_or_whole, masks_on_canvas
from .instruct_pass import InstructPass, RunSettings, prepare_pass, resolve_run, under_text
from .language_options import LanguageConfig
from .request import EditRequest, EditResult
from .tokens import bare_text
from .tools import Tools, ground_phrases


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A brush on a checkpoint, and what was found out about the two."""

    brush: Brush
    layers: LayerRows
    settings: RunSettings
    warnings: tuple[str, ...]


class BrushEditor:
    """An editor whose instruction was learned from pairs."""

    def __init__(
        self, kind: BrushKind, backbone: Backbone, config: BrushConfig, *, tools: Tools | None, brush: Brush | None
    ) -> None:
        """Edit with a checkpoint whose UNet takes a condition picture.

        Args:
            kind: the editor's name, and that of its brushes.
            backbone: the checkpoint.
            config: names the brush.
            tools: who finds phrases; None = what the options name.
            brush: one that is not on disk; None = the file that the options name.

        Raises:
            ModelError: for a checkpoint of another kind, or a brush that does not fit it.
        """
        backbone.require("instruct-pix2pix", kind)
        self.kind, self.backbone, self.config, self._brush = kind, backbone, config, brush
        self.tools = tools or Tools(backbone, language=LanguageConfig(), grounding=config.grounding)
        if brush is not None or config.brush is not None:
            # What does not fit is refused now, not at the first edit.
            _ = self.loaded

    @cached_property
    def loaded(self) -> _Loaded:
        """The brush, its tensors on the device, and the settings it was learned with.

        Raises:
            InputError: if none was named, or it is another editor's.
            ModelError: if it cannot be read or does not fit.
        """
        brush = self._brush
        if brush is None:
            if self.config.brush is None:
                raise InputError(f"{self.kind} edits by a learned instruction, got none: pass --brush FILE")
            brush = load_brush(self.config.brush)
        header = brush.header
        if header.kind != self.kind:
            raise InputError(f"{header.name!r} is a brush of {header.kind}: pass --editor {header.kind}")
        check_fit(brush, self.backbone)
        preset = InstructPreset(
            sampler=header.sampler,
            steps=header.sampling_steps,
            guidance_scale=header.guidance_scale,
            image_guidance_scale=header.image_guidance_scale,
        )
        return _Loaded(
            brush=brush,
            layers=layers_of(self.backbone, brush.tensors),
            settings=resolve_run(self.config, preset, noise_level=1.0),
            warnings=_warn_of_other_weights(brush, self.backbone),
        )

    def plan(self, request: EditRequest) -> EditRequest:
        """The request as it is: what to do was learned."""
        return request

    def edit(self, request: EditRequest) -> EditResult:
        """Edit a batch of images by the brush, inside what is found for the phrases where there are any.

        Raises:
            NothingFoundError: if a phrase has no answer in a picture.
        """
        request, grounding = ground_phrases(request, self.tools, chunk=self.config.chunk)
        result = edit_on_canvas(request, self.backbone, self.config, self._run, name=self.kind)
        return replace(result, trace=replace(result.trace, grounding=grounding)) if grounding else result

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """The masks that were given or that phrases ask for; ones where there is neither."""
        request, _ = ground_phrases(request, self.tools, chunk=self.config.chunk)
        return masks_on_canvas(request, self.backbone, self.config, given_or_whole)

    def _run(self, request: EditRequest) -> PassResult:
        loaded = self.loaded
        header, settings = loaded.brush.header, loaded.settings
        prompt, prepared = self._prepare(request)
        total = int(self.backbone.scheduler_config.get("num_train_timesteps", 1000))
        rows = LearnedRows(
            loaded.layers,
            first_row=header.first_row,
            segments=segment_of(prepared.schedule.timesteps, header.segments, total),
            dtype=self.backbone.dtype,
        )
        guidance = InstructGuidance(
            guidance_scale=settings.guidance_scale, image_guidance_scale=settings.image_guidance_scale
        )
        return PassResult(
            image=prepared.run(guidance, [rows]),
            masks=given_or_whole(request),
            prompt=prompt,
            timesteps=prepared.timesteps,
            warnings=loaded.warnings,
            settings={**asdict(settings), "brush": header.name},
        )

    def _prepare(self, request: EditRequest) -> tuple[str, InstructPass]:
        """The prompt with what is said beside the brush, and a run on it."""
        brush, file = self.loaded.brush, self.config.brush
        texts = [bare_text(each) for each in request.instructions]
        beside = [text for text in texts if not brush.answers_to(text) and (file is None or text != file.stem)]
        prompt, embeds = brush_prompt(brush.header, beside, self.backbone)
        return prompt, prepare_pass(request, self.backbone, self.loaded.settings, under_text(self.backbone, embeds))


def _warn_of_other_weights(brush: Brush, backbone: Backbone) -> tuple[str, ...]:
    """A word on a checkpoint that the brush fits and was not learned on."""
    header = brush.header
    if header.fingerprint == fingerprint_checkpoint(backbone.origin, "instruct-pix2pix"):
        return ()
    return (
        f"the brush {header.name!r} was learned on {header.model!r}, and the weights of {backbone.name!r} differ from "
        "it: what it does may differ, too",
    )
