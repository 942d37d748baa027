"""Edits of clips with exact truth: one canonical picture edited once, against every frame edited by itself.

The clips are held-out blocks scenes at the checkpoint's own size: the camera sweeps around, and a block slides and
turns. The metrics are those of `video_scores.py`. For each clip there is a row for each of these methods:

- `unedited`, and `truth`, the truly edited clip: what the metrics say of no edit and of a perfect one.
- `EDITOR/per-frame`: every frame by itself, with the same settings and the same seed for all frames of a clip, which is
  the steadiest that editing frame by frame can be: noise drawn anew for each would flicker more.
- `EDITOR/canonical-TRANSFER`: flow, fit, one edit of the canonical image with the same settings and seed, and frames
  rendered from it; nothing is told of the truth. The canonical image is a little larger than a frame; with `keep_scale`
  the editor works at a size that is larger by as much, so that it sees things as large as in the frames.
- `EDITOR+masks/...`, with `painted_masks`: the same where the user paints the silhouettes, on every frame for the one
  and on the middle frame alone for the other; what is left to compare is the edit, not the finding.
- `true-edit/canonical-TRANSFER`: the same with the true edits of all frames, averaged, in place of an editor's: about
  the most that the fitted offsets can carry.

With `clip`, a clip of one's own has the rows `source` and `reconstruction`, the frames that the fields give back, along
the flow that was estimated: `psnr_fit`, `warp_error` and `flicker` have a meaning there, the others need a truth.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ..editors import (
    Backbone,
    Editor,
    EditRequest,
    FoIConfig,
    Instruction,
    IP2PConfig,
    NothingFoundError,
    in_chunks,
    make_editor,
    overlay_mask,
    resize_image,
    save_image,
)
from ..video.composite import Transfer, mask_and_edit_frames
from ..video.editing import EditedLayer, edit_segments
from ..video.fit import ClipFit, fit_clip
from ..video.fit_options import FitConfig
from ..video.flow import ClipFlow, FlowConfig, estimate_flow
from ..video.frame_mask import FrameMask
from ..video.frames import read_clip
from ..video.metrics import flicker, warp_error
from ..video.render import canonical_places
from ..video.segments import Segment
from .blocks.clip import Clip, render_clip, sample_clip
from .blocks.instructions import EditKind
from .table import Document, Row, make_document
from .video_scores import METRICS, ClipOutcome, mean, measure_clip, summarise_clips, to_bytes

ClipEditor = Literal["foi", "ip2p"]
Progress: TypeAlias = Callable[[str, int, int], None]
_SHOWN_TIMES = 4
_ENLARGED = 3


@dataclass(frozen=True, kw_only=True)
class VideoBenchConfig:
    """What to measure."""

    clips: int = 12
    """Clips, at least 1."""
    first: int = 0
    """Number of the first one, at least 0."""
    split: Literal["test", "validation"] = "test"
    """Where scenes are from: `validation` to choose settings, `test` for figures."""
    frames: int = 12
    """Frames of a clip, at least 3."""
    size: int | None = None
    """Side of the frames in pixels, at least 32; None = the checkpoint's own."""
    kinds: tuple[EditKind, ...] = ("recolor",)
    """Kinds of edit, drawn with equal shares."""
    editors: tuple[ClipEditor, ...] = ("foi",)
    """Editors, each for every frame and for the canonical image."""
    transfers: tuple[Transfer, ...] = ("replace", "residual")
    """How an edit comes into the frames."""
    painted_masks: bool = False
    """Also measure editors that are given masks."""
    keep_scale: bool = True
    """Edit canonical images at the scale of the frames, not shrunk to the checkpoint's own size."""
    pictures: Path | None = None
    """Folder for a contact sheet of each clip; None = none."""
    clip: Path | None = None
    """A clip of one's own to measure as well; None = none."""
    clip_size: int = 192
    """Its longest side in pixels, at least 32."""
    clip_frames: int = 24
    """How many of its frames, at least 3."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=150, finest_cell=1.0, flow_weight=3.0))
    """Small clips afford cells of a pixel, and these need more flow to hold them; chosen on validation clips."""
    foi: FoIConfig = field(default_factory=FoIConfig)
    ip2p: IP2PConfig = field(default_factory=IP2PConfig)

    def __post_init__(self) -> None:
        bounds = {"clips": 1, "first": 0, "frames": 3, "clip_size": 32, "clip_frames": 3}
        for name, least in bounds.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.size is not None and self.size < 32:
            raise ValueError(f"size must be at least 32, got {self.size}")
        for name in ("kinds", "transfers"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one, got none")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A clip with its fields."""

    frames: UInt8[Tensor, "frame 3 height width"]
    flow: ClipFlow
    fit: ClipFit
    seconds: dict[str, float]
    """Of flow and fit."""

    @property
    def segments(self) -> list[Segment]:
        """The clip as the one segment it is."""
        return [Segment(rows=slice(0, len(self.frames)), fit=self.fit)]

    @property
    def psnr(self) -> float:
        """Of the frames that the fields give back, in dB."""
        return mean(self.fit.psnr(self.frames).tolist())


def run_video_bench(
    backbone: Backbone, config: VideoBenchConfig | None = None, *, progress: Progress = lambda *_: None
) -> Document:
    """Measure everything."""
    config = config or VideoBenchConfig()
    values: dict[str, list[Row]] = {}
    for done in range(config.clips):
        number = config.first + done
        clip = draw_clip(config, number, size=config.size or backbone.native_size)
        progress("clips", done, config.clips)
        for method, row in _measure_methods(clip, number, backbone, config).items():
            values.setdefault(method, []).append(row)
    progress("clips", config.clips, config.clips)
    rows = [summarise_clips(method, "clips", own) for method, own in values.items()]
    if len(config.kinds) > 1:
        for method, own in values.items():
            kinds = sorted({str(row["kind"]) for row in own})
            rows += [summarise_clips(method, kind, [row for row in own if row["kind"] == kind]) for kind in kinds]
    if config.clip is not None:
        rows += measure_own_clip(config.clip, config, backbone.device)
    return make_document("video", rows, backbone.device, model=backbone.name)


def draw_clip(config: VideoBenchConfig, number: int, *, size: int) -> Clip:
    """A clip of the blocks world, by its number."""
    kinds = dict.fromkeys(config.kinds, 1 / len(config.kinds))
    return render_clip(sample_clip(config.split, number, frames=config.frames, kinds=kinds), height=size)


def fit_frames(
    frames: UInt8[Tensor, "frame 3 height width"], flow: FlowConfig, fit: FitConfig, device: torch.device | str
) -> Fitted:
    """Flow and fields of a clip, timed."""
    start = time.perf_counter()
    motion = estimate_flow(frames, flow, device)
    middle = time.perf_counter()
    fields = fit_clip(frames, motion, None, fit, device=device)
    seconds = {"flow": middle - start, "fit": time.perf_counter() - middle}
    return Fitted(frames=frames, flow=motion, fit=fields, seconds=seconds)


def _measure_methods(clip: Clip, number: int, backbone: Backbone, config: VideoBenchConfig) -> dict[str, Row]:
    source = to_bytes(clip.source.frames)
    outcomes = {
        "unedited": ClipOutcome(frames=source),
        "truth": ClipOutcome(frames=to_bytes(clip.edited.frames), mask=clip.changed.float()),
    }
    fitted = fit_frames(source, config.flow, config.fit, backbone.device)
    sheets: dict[str, list[Tensor]] = {}
    for name in config.editors:
        settings = config.foi if name == "foi" else config.ip2p
        editor = make_editor(settings, backbone)
        for label, masks in ((name, None), (f"{name}+masks", clip.mask.float()))[: 1 + config.painted_masks]:
            outcomes[f"{label}/per-frame"] = edit_each_frame(clip, editor, masks, seed=number)
            own, sheets[label] = edit_canonical(
                clip, fitted, editor, config.transfers, masks, seed=number, keep_scale=config.keep_scale
            )
            outcomes |= {f"{label}/canonical-{transfer}": outcome for transfer, outcome in own.items()}
    truth = carry_truth(clip, fitted)
    for transfer in config.transfers:
        outcomes[f"true-edit/canonical-{transfer}"] = _render(fitted, truth, transfer)
    if config.pictures is not None:
        for name, canonical in sheets.items():
            shown = {m: o for m, o in outcomes.items() if m in ("unedited", "truth") or m.startswith(f"{name}/")}
            save_strip(canonical, [o.frames for o in shown.values()], config.pictures / f"{name}_{number:03d}.png")
    return {method: measure_clip(clip, outcome) for method, outcome in outcomes.items()}


def edit_each_frame(
    clip: Clip, editor: Editor, painted: Float[Tensor, "frame 1 height width"] | None = None, *, seed: int
) -> ClipOutcome:
    """Every frame by itself, perhaps within a mask; one in which nothing is found stays as it is."""
    source, refused = clip.source.frames, 0
    frames, masks = list(source.split(1)), list(torch.zeros_like(source[:, :1]).split(1))
    start = time.perf_counter()
    for row, frame in enumerate(source.split(1)):
        try:
            mask = None if painted is None else painted[row : row + 1]
            result = editor.edit(EditRequest(image=frame, instructions=_instructions(clip), mask=mask, seeds=(seed,)))
            frames[row], masks[row] = result.image.cpu(), result.mask.cpu()
        except NothingFoundError:
            refused += 1
    seconds = {"edit": time.perf_counter() - start}
    share = refused / len(source)
    return ClipOutcome(frames=to_bytes(torch.cat(frames)), mask=torch.cat(masks), refused=share, seconds=seconds)


def edit_canonical(
    clip: Clip,
    fitted: Fitted,
    editor: Editor,
    transfers: Sequence[Transfer],
    painted: Float[Tensor, "frame 1 height width"] | None = None,
    *,
    seed: int,
    keep_scale: bool = True,
) -> tuple[Mapping[Transfer, ClipOutcome], list[Float[Tensor, "1 3 _ _"]]]:
    """One edit of the canonical image, perhaps within the mask of the middle frame, carried into the frames.

    Returns:
        An outcome for each transfer, and the canonical image before, with its mask, and after.
    """
    middle, start = len(fitted.frames) // 2, time.perf_counter()
    mask = None if painted is None else FrameMask(frame=middle, mask=painted[middle : middle + 1])
    try:
        edited = edit_segments(
            fitted.segments, editor, _instructions(clip), seed=seed, mask=mask, keep_scale=keep_scale
        )
    except NothingFoundError:
        seconds = fitted.seconds | {"edit": time.perf_counter() - start}
        left = ClipOutcome(frames=fitted.frames, refused=1.0, psnr_fit=fitted.psnr, seconds=seconds)
        return dict.fromkeys(transfers, left), [fitted.segments[0].canonical(0).image]
    seconds = time.perf_counter() - start
    layer = edited.segments[0][0]
    outcomes: dict[Transfer, ClipOutcome] = {
        transfer: _render(fitted, layer, transfer, seconds=seconds) for transfer in transfers
    }
    return outcomes, [edited.sheet, overlay_mask(edited.sheet, edited.sheet_mask), edited.sheet_edited]


def carry_truth(clip: Clip, fitted: Fitted) -> EditedLayer:
    """The true change of all frames in the canonical image: the mean of what falls on each of its pixels."""
    change = torch.cat([clip.edited.frames - clip.source.frames, clip.changed.float()], 1).to(fitted.fit.device)
    shape = fitted.fit.shape
    places = canonical_places(
        fitted.fit.offsets(0, torch.arange(shape.frames), (shape.height, shape.width)), shape
    ).flatten(0, 2)
    height, width = shape.canonical_height, shape.canonical_width
    sums = change.new_zeros(height * width, 5)
    values = F.pad(change, (0, 0, 0, 0, 0, 1), value=1.0).permute(0, 2, 3, 1).flatten(0, 2)
    for corner in places.new_tensor([(0, 0), (0, 1), (1, 0), (1, 1)]):
        near = places.floor() + corner
        share = (1 - (places - near).abs()).clamp(min=0).prod(-1, keepdim=True)
        index = near[:, 1].clamp(0, height - 1) * width + near[:, 0].clamp(0, width - 1)
        sums.index_add_(0, index.long(), values * share)
    means = (sums[:, :4] / sums[:, 4:].clamp(min=1e-6)).T.view(1, 4, height, width)
    original = fitted.segments[0].canonical(0).image
    edited = (original + means[:, :3]).clamp(0, 1)
    return EditedLayer(original=original, edited=edited, mask=(means[:, 3:] > 0.05).float())


def measure_own_clip(path: Path, config: VideoBenchConfig, device: torch.device) -> list[Row]:
    """Rows of a clip without truth."""
    frames = read_clip(path, size=config.clip_size, frames=config.clip_frames).frames
    fitted = fit_frames(frames, config.flow, config.fit, device)
    flow, numbers = fitted.flow, torch.arange(len(frames))
    start = time.perf_counter()
    back = in_chunks(lambda rows: fitted.fit.reconstruct(numbers[rows], None), len(frames), chunk=8)
    rendered = to_bytes(torch.cat(back)).cpu()
    seconds = {f"seconds_{name}": spent for name, spent in fitted.seconds.items()}
    seconds["seconds_render"] = time.perf_counter() - start
    own: dict[str, Row] = {"source": {}, "reconstruction": {"psnr_fit": fitted.psnr, **seconds}}
    trusted = (flow.forward_confident, flow.backward_confident)
    rows: list[Row] = []
    for (method, extra), shown in zip(own.items(), (frames, rendered), strict=True):
        steady: Row = {
            "warp_error": 255 * warp_error(shown, flow.forward, trusted[0]),
            "flicker": 255 * flicker(shown, flow.forward, flow.backward, *trusted),
        }
        rows.append({"method": method, "set": path.stem, "clips": 1, **dict.fromkeys(METRICS), **steady, **extra})
    return rows


def save_strip(
    canonical: Sequence[Float[Tensor, "1 3 _ _"]], clips: Sequence[UInt8[Tensor, "frame 3 height width"]], path: Path
) -> None:
    """A row per clip at four times, and beside them the canonical image before, with its mask, and after."""
    height, width = clips[0].shape[-2] * _ENLARGED, clips[0].shape[-1] * _ENLARGED
    times = torch.linspace(0, len(clips[0]) - 1, _SHOWN_TIMES).round().long()
    lines: list[Tensor] = []
    for row, clip in enumerate(clips):
        shown = [resize_image(frame, height, width) for frame in (clip[times].float() / 255).split(1)]
        beside = canonical[row] if row < len(canonical) else torch.ones(1, 3, 1, 1)
        lines.append(torch.cat([resize_image(beside.cpu(), height, width), *shown], -1))
    save_image(torch.cat(lines, -2), path)


def _instructions(clip: Clip) -> tuple[Instruction, ...]:
    return tuple(Instruction(text=edit.text, keyword=edit.keyword) for edit in clip.spec.edits)


def _render(fitted: Fitted, edited: EditedLayer, transfer: Transfer, *, seconds: float = math.nan) -> ClipOutcome:
    """Frames with the edit, and where it may show in them."""
    start = time.perf_counter()
    done = mask_and_edit_frames(fitted.frames, range(len(fitted.frames)), fitted.segments, [(edited,)], transfer)
    spent = time.perf_counter() - start
    return ClipOutcome(
        frames=done.frames.cpu(),
        mask=done.mask.cpu(),
        refused=0.0,
        psnr_fit=fitted.psnr,
        seconds=fitted.seconds | {"edit": seconds, "render": spent},
    )
