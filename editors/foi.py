"""FoI: Focus on Your Instruction, fine-grained and multi-instruction editing (arXiv 2312.10113).

One InstructPix2Pix pass applies several instructions, each inside its own region: masks come from the UNet's own
cross-attention at the first step, attention logits outside them become those of the empty instruction, and text
guidance stays inside them for the first three quarters of the steps.

Differs from the paper: tau is fixed instead of drawn per image (draw it with `mask_threshold="sample"`), so that runs
repeat; a map without any peak is an error instead of a full mask.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from .core.attention import AttentionStore
from .core.backbone import Backbone
from .core.errors import NothingFoundError
from .core.guidance import InstructGuidance
from .core.types import LatentMask, Mask
from .parts.canvas import PassResult, edit_on_canvas, given_masks, masks_on_canvas
from .parts.instruct_pass import InstructPass, prepare_pass, resolve_run
from .parts.masks import grid_to_mask, keyword_map, mask_to_grid, region_to_grid, sharpen_map, threshold_map, union
from .parts.modulation import MaskedAttention
from .parts.options import FoIConfig
from .parts.request import EditRequest, EditResult
from .parts.tokens import TokenLayout, compose_instructions
from .parts.tools import Tools, split_instruction, tools_of


@dataclass(frozen=True, kw_only=True)
class _MaskSettings:
    """Mask extraction with every preset resolved."""

    stride: int
    stages: tuple[str, ...]
    squarings: int
    threshold: float | str


class FoI:
    """FoI on the shared core."""

    def __init__(self, backbone: Backbone, config: FoIConfig | None = None, *, tools: Tools | None = None) -> None:
        """Edit with a checkpoint whose UNet takes a condition picture; tools not given are those the settings name.

        Raises:
            ModelError: for any other checkpoint.
        """
        backbone.require("instruct-pix2pix", "foi")
        self.backbone = backbone
        self.config = config or FoIConfig()
        self.tools = tools or tools_of(self.config, backbone)
        preset = backbone.preset
        self.settings = resolve_run(self.config, preset.instruct, noise_level=preset.foi.noise_level)
        threshold = self.config.mask_threshold
        squarings = self.config.mask_squarings
        self._masks = _MaskSettings(
            stride=self.config.mask_stride or preset.foi.mask_stride,
            stages=self.config.mask_stages or preset.foi.mask_stages,
            squarings=preset.foi.mask_squarings if squarings is None else squarings,
            threshold=preset.foi.mask_threshold if threshold is None else threshold,
        )

    def plan(self, request: EditRequest) -> EditRequest:
        """The request with instructions that ask for several edits taken apart, each with its own keyword.

        What the language processor does not understand stays as it is, with a note that ends among the warnings of an
        edit: FoI needs no more than a keyword.
        """
        if not self.config.split or request.mask is not None:
            return request
        parts = [part for instruction in request.instructions for part in split_instruction(instruction, self.tools)]
        return replace(request, instructions=tuple(parts))

    def edit(self, request: EditRequest) -> EditResult:
        """Edit a batch of images with all instructions at once, each inside its own mask.

        Raises:
            NothingFoundError: if attention to a keyword is the same everywhere.
        """
        return edit_on_canvas(self.plan(request), self.backbone, self.config, self._run, name="foi")

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """The masks an edit of the same request would use: from one UNet call, or with `extract_at` a whole run.

        Raises:
            NothingFoundError: if attention to a keyword is the same everywhere.
        """
        return masks_on_canvas(self.plan(request), self.backbone, self.config, self._find)

    def _find(self, request: EditRequest) -> tuple[Mask, ...]:
        run = _FoIRun(self, request)
        if run.extract_step:
            return run.edit().masks
        run.extract_before()
        return run.picture_masks()

    def _run(self, request: EditRequest) -> PassResult:
        return _FoIRun(self, request).edit()


class _FoIRun:
    """The state of one pass: which masks are known, and what the guidance and the attention see of them."""

    def __init__(self, editor: FoI, request: EditRequest) -> None:
        self.config, self.settings, self.request = editor.config, editor.settings, request
        self.extraction = editor._masks
        self.backbone = editor.backbone
        self.layout: TokenLayout = compose_instructions(request.instructions, self.backbone.tokenizer)
        self.prepared: InstructPass = prepare_pass(request, self.backbone, self.settings, self.layout)
        steps = self.prepared.schedule.steps
        self.extract_step = min(round(self.config.extract_at * steps), steps - 1)
        self.disentangled = range(round(self.config.disentangle_end * steps))
        self.latent_size = self.prepared.latents.shape[-2:]
        stride = self.extraction.stride
        height, width = self.latent_size
        self.map_size = (-(-height // stride), -(-width // stride))
        self.store = AttentionStore(
            tokens=self.map_size[0] * self.map_size[1],
            stages=self.extraction.stages,  # pyright: ignore[reportArgumentType]
            steps=(self.extract_step,),
        )
        self.attention = self._build_attention(steps)
        self.latent_masks: list[LatentMask] | None = None
        self.union: LatentMask | None = None
        given = [None if g is None else region_to_grid(g, *self.latent_size) for g in given_masks(request)]
        self.given: list[LatentMask | None] = given
        if all(g is not None for g in given):
            self._set_masks([g for g in given if g is not None])

    def _build_attention(self, steps: int) -> MaskedAttention:
        times = self.prepared.schedule.timesteps / 1000
        if self.config.boost_time == "executed":
            times = times / times[0].clamp(min=1e-6)
        return MaskedAttention(
            segments=self.layout.segments,
            strengths=[i.strength for i in self.request.instructions],
            times=times,
            boost=self.config.boost,
            over=self.config.boost_max,
            special=self.config.special_tokens,
            resize=self.config.mask_resize,
            swap_values=self.config.swap_values,
            steps=range(round(self.config.modulation_end * steps)),
        )

    def edit(self) -> PassResult:
        guidance = InstructGuidance(
            guidance_scale=self.settings.guidance_scale,
            image_guidance_scale=self.settings.image_guidance_scale,
            weight=self._weight,
        )
        if self.config.rerun_first_step and self.latent_masks is None:
            self.extract_before()
        edits = [self.attention] if self.latent_masks is not None else [self.store, self.attention]
        image = self.prepared.run(guidance, edits)
        settings = {**asdict(self.settings), **asdict(self.extraction), "foi": asdict(self.config)}
        return PassResult(
            image=image,
            masks=self.picture_masks(),
            prompt=self.layout.prompt,
            keywords=self.layout.keywords,
            timesteps=self.prepared.timesteps,
            settings=settings,
        )

    def extract_before(self) -> None:
        """Find the masks with a UNet call of their own, at the first step."""
        if self.latent_masks is not None:
            return
        prepared = self.prepared
        with prepared.control([self.store]):
            model_input = prepared.schedule.scale_model_input(prepared.latents, 0)
            with torch.no_grad():
                self.backbone.predict(model_input, prepared.schedule.timesteps[0], prepared.conditioning)
        self._extract()

    def picture_masks(self) -> tuple[Mask, ...]:
        """Masks at working size."""
        if self.latent_masks is None:
            raise RuntimeError("masks were asked for before the step that extracts them")
        size = self.request.image.shape[-2:]
        # Maps are coarser than latents, so their outline fades over half a cell of the map.
        grids = [mask_to_grid(mask, *self.map_size) for mask in self.latent_masks]
        return tuple(grid_to_mask(grid, *size) for grid in grids)

    def _weight(self, step: int) -> LatentMask | None:
        """W of Eq. 9. The guidance asks after the UNet has run, so the maps of this very step are there."""
        if self.latent_masks is None and step == self.extract_step:
            self._extract()
        return self.union if step in self.disentangled else None

    def _extract(self) -> None:
        probs = self.store.mean()
        rows, columns = self.map_size
        threshold = self._threshold()
        found: list[LatentMask] = []
        for number, columns_of_keyword in enumerate(self.layout.keyword_columns):
            given = self.given[number]
            if given is not None:
                found.append(given)
                continue
            attention = keyword_map(probs, columns_of_keyword, rows, columns)
            attention = sharpen_map(attention, squarings=self.extraction.squarings, blur=self.config.mask_blur)
            found.append(mask_to_grid(threshold_map(attention, threshold), *self.latent_size))
        # The only wait for the device of a run: an empty mask must stop it.
        areas = torch.stack([mask.amax((1, 2, 3)).amin() for mask in found]).tolist()
        for keyword, area, given in zip(self.layout.keywords, areas, self.given, strict=True):
            if area == 0 and given is None:
                bound = threshold if not isinstance(threshold, Tensor) else float(threshold.min())
                raise NothingFoundError(keyword, score=0.0, threshold=bound)
        self._set_masks(found)

    def _threshold(self) -> float | Tensor:
        if isinstance(self.extraction.threshold, str):
            draws = [torch.rand((), generator=g, device=g.device) for g in self.prepared.generators]
            return 0.4 + 0.3 * torch.stack(draws)
        return float(self.extraction.threshold)

    def _set_masks(self, masks: Sequence[LatentMask]) -> None:
        self.latent_masks = list(masks)
        self.union = union(masks)
        self.attention.set_masks(masks)
