"""Kinds of fields against each other on the same clips: how fast and how well each holds a clip.

Rows, for each clip: `dense`, started from the flow; `dense-without-flow`, which learns the motion from the colours;
`hash` and `frequency`, CoDeF's own; and `hash-tiny-cuda-nn` where that package is installed. Columns:

- `parameters`, and `seconds_step`, the median over a few steps; `seconds_flow`, spent once before.
- `psnr_SECONDSs` (dB): of the frames that the fields give back, the mean over frames, after a whole fit with as many
  steps as take that long at `seconds_step`. Rates fall and detail fades in over a fit, so each budget is its own fit.
- `psnr_STEPS` (dB): the same after as many steps for all kinds.
- `seconds_to_30dB`, `seconds_to_33dB`: when the fit of the longest budget first reported as much for the frames it saw;
  null = never.
- `frames_per_second`: rendered from a canonical image at the size of the frames.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from ..editors import resolve_device
from ..video.fit import ClipFit, FitProgress, fit_clip
from ..video.fit_options import FitConfig
from ..video.flow import ClipFlow, FlowConfig, estimate_flow
from ..video.frames import read_clip
from ..video.render import render_frames
from .blocks.clip import render_clip, sample_clip
from .table import Document, Row, make_document
from .video_scores import mean, to_bytes

FieldMethod = Literal["dense", "dense-without-flow", "hash", "frequency", "hash-tiny-cuda-nn"]
Progress: TypeAlias = Callable[[str, int, int], None]
LEVELS = (30, 33)
"""Fidelities that are waited for, in dB."""
_TIMED_STEPS = 5
_RENDERED_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class VideoFieldsBenchConfig:
    """What to measure."""

    methods: tuple[FieldMethod, ...] | None = None
    """Which kinds; None = all, tiny-cuda-nn's where it is installed."""
    seconds: tuple[float, ...] = (30.0, 60.0, 120.0)
    """Budgets of a fit, each above 0; () = none."""
    steps: int = 300
    """Steps of the fit by steps; 0 = none."""
    number: int = 0
    """Which clip of the blocks world."""
    frames: int = 12
    """Its frames, at least 3."""
    size: int = 128
    """Side of its frames in pixels, at least 32."""
    clip: Path | None = None
    """A clip of one's own to measure as well; None = none."""
    clip_size: int = 192
    """Its longest side in pixels, at least 32."""
    clip_frames: int = 24
    """How many of its frames, at least 3."""
    device: str = "auto"
    """Where fields are computed: `cpu`, an accelerator, or `auto` for the best there is."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    """What all fits share; its steps, field and kernel are set by the bench."""

    def __post_init__(self) -> None:
        bounds = {"steps": 0, "number": 0, "frames": 3, "size": 32, "clip_size": 32, "clip_frames": 3}
        for name, least in bounds.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not all(budget > 0 for budget in self.seconds):
            raise ValueError(f"seconds must be above 0, got {self.seconds}")
        if self.methods is not None and not self.methods:
            raise ValueError("methods must name at least one, got none")


def run_video_fields_bench(
    config: VideoFieldsBenchConfig | None = None, *, progress: Progress = lambda *_: None
) -> Document:
    """Measure everything."""
    config = config or VideoFieldsBenchConfig()
    device = resolve_device(config.device, "auto")[0]
    spec = sample_clip("test", config.number, frames=config.frames)
    clips = {f"blocks {config.size}": to_bytes(render_clip(spec, height=config.size).source.frames)}
    if config.clip is not None:
        own = read_clip(config.clip, size=config.clip_size, frames=config.clip_frames).frames
        clips[f"{config.clip.stem} {config.clip_size}"] = own
    methods = config.methods or available_methods()
    rows: list[Row] = []
    for name, frames in clips.items():
        start = time.perf_counter()
        flow = estimate_flow(frames, config.flow, device)
        spent = time.perf_counter() - start
        for method in methods:
            progress(f"{method}, {name}", len(rows), len(methods) * len(clips))
            used = None if method == "dense-without-flow" else flow
            times: Row = {"seconds_flow": None if used is None else spent}
            rows.append({"method": method, "set": name} | times | measure_fields(frames, used, method, config, device))
    return make_document("video-fields", rows, device)


def available_methods() -> tuple[FieldMethod, ...]:
    """All kinds that can run here."""
    everywhere: tuple[FieldMethod, ...] = ("dense", "dense-without-flow", "hash", "frequency")
    return (*everywhere, "hash-tiny-cuda-nn") if find_spec("tinycudann") else everywhere


def fit_config(method: FieldMethod, base: FitConfig, steps: int) -> FitConfig:
    """The settings of a kind of fields."""
    kernel = "tiny-cuda-nn" if method == "hash-tiny-cuda-nn" else "torch"
    kind = "dense" if method == "dense-without-flow" else "hash" if method == "hash-tiny-cuda-nn" else method
    return replace(base, field=kind, hash_kernel=kernel, steps=steps)


def measure_fields(
    frames: UInt8[Tensor, "frame 3 height width"],
    flow: ClipFlow | None,
    method: FieldMethod,
    config: VideoFieldsBenchConfig,
    device: torch.device,
) -> Row:
    """The columns of one kind on one clip."""

    def fit(steps: int) -> tuple[ClipFit, list[FitProgress]]:
        reports: list[FitProgress] = []
        settings = fit_config(method, config.fit, steps)
        every = 1 if steps <= _TIMED_STEPS + 1 else 10
        fields = fit_clip(frames, flow, None, settings, device=device, report=reports.append, report_every=every)
        return fields, reports

    fields, reports = fit(_TIMED_STEPS + 1)
    # The first step is longer than the others, by what is set up in it.
    between = [after.seconds - before.seconds for before, after in pairwise(reports)]
    row: Row = {
        "parameters": sum(value.numel() for value in fields.parameters().values()),
        "seconds_step": statistics.median(between),
    }
    for budget in sorted(config.seconds):
        fields, reports = fit(max(1, round(budget / statistics.median(between))))
        row[f"psnr_{budget:g}s"] = mean(fields.psnr(frames).tolist())
    for level in LEVELS if config.seconds else ():
        row[f"seconds_to_{level}dB"] = next((report.seconds for report in reports if report.psnr >= level), None)
    if config.steps:
        fields, _ = fit(config.steps)
        row[f"psnr_{config.steps}"] = mean(fields.psnr(frames).tolist())
    row["frames_per_second"] = rendering_speed(fields)
    return row


@torch.no_grad()
def rendering_speed(fit: ClipFit) -> float:
    """Frames a second from the canonical image of fitted fields, which is what an edited clip takes."""
    image, size = fit.layers[0].canonical.image(fit.shape), (fit.shape.height, fit.shape.width)
    start = time.perf_counter()
    for rows in torch.arange(fit.shape.frames).split(_RENDERED_AT_ONCE):
        # Waits for the result, as a writer of frames does.
        to_bytes(render_frames(image, fit.offsets(0, rows, size), fit.shape)).cpu()
    return fit.shape.frames / (time.perf_counter() - start)
