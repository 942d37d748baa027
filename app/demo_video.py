"""The demo's clip: edited by way of one canonical image and frame by frame, and measured against its true twin."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..bench.blocks import write_clip, write_video
from ..bench.blocks.clip import Clip as BlocksClip
from ..bench.blocks.clip import render_clip, sample_clip
from ..bench.video import edit_each_frame
from ..bench.video_scores import ClipOutcome, measure_clip, to_bytes
from ..editors import Backbone, FoIConfig, Image, Instruction, load_image, make_editor, resize_image, save_image
from ..video.fit_options import FitConfig
from ..video.flow import FlowConfig
from ..video.frames import read_clip
from ..video.options import VideoConfig
from ..video.preparing import RunProgress
from ..video.stages import VideoRun
from .report import Clip, Gallery, Section, Table

CLIP = 852
"""A held-out scene with a large ball in front, chosen among a few for what the small checkpoint makes of it."""
SIZE, SEED, FPS = 96, 0, 6
SHOWN = (0, 4, 8, 11)
"""Frames of the report's gallery."""
_ENLARGED = 3
FIGURES = {
    "psnr_truth": "PSNR",
    "psnr_inside": "PSNR inside",
    "psnr_outside": "PSNR outside",
    "warp_error": "change along the motion",
    "warp_inside": "the same inside",
}
"""Metrics of `maskedit bench video` that are shown, and what they are called."""


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """How long to work on the clip."""

    fit_steps: int = 250
    """Gradient steps of the fit, at least 1."""
    frames: int = 12
    """Frames of the clip, at least 12."""

    def __post_init__(self) -> None:
        for name, least in (("fit_steps", 1), ("frames", max(SHOWN) + 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """The clip before and after."""

    clip: BlocksClip
    edited: UInt8[Tensor, "frame 3 height width"]
    """By way of the canonical image."""
    per_frame: UInt8[Tensor, "frame 3 height width"]
    """Every frame by itself."""
    canonical: tuple[Float[Tensor, "1 3 _ _"], Float[Tensor, "1 3 _ _"]]
    """The canonical image before and after."""
    psnr_fit: float
    """Of the frames that the canonical image gives back before the edit, in dB."""
    figures: dict[str, dict[str, float | None]]
    """The metrics by method."""
    film: Path
    """Source, frame by frame, canonical image, truth: side by side."""

    @property
    def instruction(self) -> str:
        """What was asked for."""
        return self.clip.spec.instruction


def edit_video(
    folder: Path, backbone: Backbone, settings: VideoSettings, *, show: Callable[[str, int, int], None]
) -> VideoResult:
    """Write the clip, edit it as `maskedit video` does and frame by frame, and measure.

    Args:
        folder: a new or empty folder.
        backbone: the editor's checkpoint.
        settings: how long.
        show: is told how it goes.

    Raises:
        MaskeditError: if the edit fails.
    """
    spec = sample_clip("test", CLIP, frames=settings.frames, kinds={"recolor": 1.0}, references={"plain": 1.0})
    clip = render_clip(spec, height=SIZE)
    write_clip(folder / "clip", clip)
    editor = make_editor(FoIConfig(), backbone)
    fit = FitConfig(steps=settings.fit_steps)
    config = VideoConfig(fit=fit, flow=FlowConfig(method="dis"), accept_quality=True)
    run = VideoRun(folder / "run", config, device=backbone.device)

    def report(progress: RunProgress) -> None:
        show(f"the clip: {progress.stage}", progress.done, progress.total)

    run.prepare(folder / "clip" / "frames", report=report)
    fitted = run.fit(report)
    words = tuple(Instruction(text=edit.text, keyword=edit.keyword) for edit in spec.edits)
    summary = run.edit(lambda: editor, words, {"editor": "foi"}, seed=SEED, report=report)
    run.render(folder / "edited", report)
    show("the clip: frame by frame", 0, 1)
    outcomes = {
        "unedited": ClipOutcome(frames=to_bytes(clip.source.frames)),
        "frame by frame": edit_each_frame(clip, editor, seed=SEED),
        "canonical image": ClipOutcome(frames=read_clip(folder / "edited", size=None).frames),
        "truth": ClipOutcome(frames=to_bytes(clip.edited.frames)),
    }
    film = folder / "film.mp4"
    write_film(film, [outcome.frames for outcome in outcomes.values()])
    result = VideoResult(
        clip=clip,
        edited=outcomes["canonical image"].frames,
        per_frame=outcomes["frame by frame"].frames,
        canonical=(load_image(summary.sheet), load_image(summary.sheet.with_name("sheet_edited.png"))),
        psnr_fit=fitted.mean_psnr,
        figures={name: _measure(clip, outcome) for name, outcome in outcomes.items()},
        film=film,
    )
    save_image(draw_strip(result), folder / "strip.png")
    return result


def _measure(clip: BlocksClip, outcome: ClipOutcome) -> dict[str, float | None]:
    """The metrics that are shown; None = without meaning."""
    row = measure_clip(clip, outcome)
    values = {name: row[name] for name in FIGURES}
    return {name: v if isinstance(v, float) and math.isfinite(v) else None for name, v in values.items()}


def write_film(path: Path, columns: list[UInt8[Tensor, "frame 3 height width"]]) -> None:
    """Clips side by side, enlarged, forth and back, so that the loop has no jump."""
    joined = torch.cat(columns, -1).float() / 255
    joined = resize_image(joined, joined.shape[-2] * _ENLARGED, joined.shape[-1] * _ENLARGED).clamp(0, 1)
    write_video(path, torch.cat([joined, joined[1:-1].flip(0)]), fps=FPS)


def draw_strip(result: VideoResult) -> Image:
    """Some frames of each kind, below each other: source, frame by frame, canonical image, truth."""
    rows = [torch.cat(list(frames[list(SHOWN)].split(1)), -1) for frames in _columns(result)]
    return torch.cat(rows, -2)


def _columns(result: VideoResult) -> tuple[Image, Image, Image, Image]:
    clip = result.clip
    return clip.source.frames, result.per_frame.float() / 255, result.edited.float() / 255, clip.edited.frames


def describe_video(result: VideoResult) -> Section:
    """The section of the report."""
    columns = _columns(result)
    frames = tuple((f"frame {n}", tuple(column[n : n + 1] for column in columns)) for n in SHOWN)
    return Section(
        title=f"A clip: {result.instruction}",
        parts=(
            f"{len(result.edited)} frames of {SIZE} pixels, in which the camera moves and a block slides. A canonical "
            "image and its motion were fitted to them without any truth; FoI edited that image once, and every frame "
            f"took over the edit. Before the edit, it gave the frames back with {result.psnr_fit:.1f} dB. The clip was "
            "chosen for what the small checkpoint makes of it; `maskedit bench video` measures many.",
            Gallery(
                columns=("canonical image", "edited"), rows=(("what was edited", result.canonical),), width=2 * SIZE
            ),
            Clip(
                caption="The source | FoI on every frame by itself, with the same seed | FoI on the canonical image | "
                "the truly edited clip.",
                path=result.film,
            ),
            Table(
                caption="PSNR in dB against the truly edited clip, everywhere, where the true edit changes it (inside) "
                "and where it does not; and the mean change of colour along the true motion from frame to frame, in "
                "grey levels of 255: lower is steadier, and the truth has some too.",
                columns=("", *FIGURES.values()),
                rows=tuple((name, *(row[metric] for metric in FIGURES)) for name, row in result.figures.items()),
            ),
            Gallery(columns=("source", "frame by frame", "canonical image", "truth"), rows=frames),
        ),
    )
