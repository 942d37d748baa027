"""How fast one edit is: our core against diffusers' InstructPix2Pix pipeline, and FoI against InstructPix2Pix.

All arms run the same networks (published architecture, random weights) in one process, in turn, so that a drifting
machine hits them alike; each ratio is the median over the rounds of the ratio within a round. Every arm encodes its
picture, except the last one, which edits the same view again; the text, the same for all, is encoded once by our arms
and each time by diffusers'. Operations are counted by torch's own counter on the meta device.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline
from torch.utils.flop_counter import FlopCounterMode

from ..editors import (
    INSTRUCT_PIX2PIX,
    Architecture,
    Backbone,
    Conditioning,
    EditRequest,
    FoIConfig,
    Instruction,
    IP2PConfig,
    make_editor,
)
from .blocks.instructions import vocabulary
from .embedded.tokenizer import build_tokenizer
from .table import Document, Row, make_document

_TEXT = "make the red cube blue"
_TOKENS = 77
_SMALLEST = 64
"""Pixels below which FoI's masks would have a single cell, in which no object can be told from the rest."""


@dataclass(frozen=True, kw_only=True)
class SpeedBenchConfig:
    """What to time."""

    size: int | None = None
    """Side of the pictures in pixels; None = 512 on CUDA, 128 on a CPU."""
    steps: int = 4
    """Denoising steps of one edit."""
    rounds: int = 3
    """Timed rounds after one warm-up."""
    batches: tuple[int, ...] = (1,)
    """Views edited at once; on CUDA 1, 4 and 16 are worth timing."""
    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False
    """Also time the compiled UNet."""

    def __post_init__(self) -> None:
        if self.size is not None and self.size < _SMALLEST:
            raise ValueError(f"size must be at least {_SMALLEST} pixels, got {self.size}")
        for name in ("steps", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"batches must be at least one number of views, each at least 1, got {self.batches}")


def run_speed_bench(
    config: SpeedBenchConfig | None = None,
    *,
    architecture: Architecture = INSTRUCT_PIX2PIX,
    report: Callable[[str], None] = lambda _: None,
) -> Document:
    """Time every arm; rows hold seconds per edit and ratios, `ratio_to_diffusers` below 1 being faster.

    Args:
        config: what to time.
        architecture: the networks, which get random weights.
        report: told what is being timed.
    """
    config = config or SpeedBenchConfig()
    tokenizer = build_tokenizer(vocabulary(), length=_TOKENS)
    backbone = Backbone.build(architecture, device=config.device, dtype=config.dtype, tokenizer=tokenizer)
    size = config.size or (128 if backbone.device.type == "cpu" else 512)
    tera = count_unet_tera(architecture, size)
    peak = measure_matrix_peak(backbone.device, backbone.dtype)
    rows: list[Row] = []
    for compiled in (False, True) if config.compile else (False,):
        if compiled:
            backbone.unet.compile()
        for batch in config.batches:
            report(f"batch {batch}, {size} px, {'compiled' if compiled else 'eager'}")
            seconds = _time_arms(_make_arms(backbone, config, size, batch), config.rounds, backbone.device)
            rows += to_rows(seconds, config, size, batch, compiled, tera, peak)
    extra = {"unet_tera_per_sample": tera, "matrix_peak_tera_per_s": peak, "dtype": str(backbone.dtype)}
    return make_document("speed", rows, backbone.device, **extra)


def _make_arms(backbone: Backbone, config: SpeedBenchConfig, size: int, batch: int) -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, 3, size, size, generator=generator).to(backbone.device)
    request = EditRequest(image=image, instructions=(Instruction(text=_TEXT),))
    options: dict[str, Any] = {"sampler": "ddim", "steps": config.steps, "noise_level": 1.0, "size": size}
    ip2p = make_editor(IP2PConfig(**options), backbone)
    foi = make_editor(FoIConfig(**options), backbone)
    return {
        "diffusers": _diffusers_arm(backbone, image, config.steps),
        "ip2p": lambda: ip2p.edit(_fresh(request)),
        "foi": lambda: foi.edit(_fresh(request)),
        "ip2p, second edit of a view": lambda: ip2p.edit(request),
    }


def _fresh(request: EditRequest) -> EditRequest:
    """The same request with a picture never seen, so that no cache helps."""
    return replace(request, image=(request.image + 1e-3 * torch.rand(1, device=request.image.device)).clamp(0, 1))


def _diffusers_arm(backbone: Backbone, image: torch.Tensor, steps: int) -> Callable[[], object]:
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        tokenizer=backbone.tokenizer,
        unet=backbone.unet,
        scheduler=DDIMScheduler.from_config(backbone.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator(backbone.device).manual_seed(i) for i in range(len(image))]
    return lambda: pipeline(
        [_TEXT] * len(image),
        image=image.to(backbone.dtype),
        num_inference_steps=steps,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        generator=generators,
        output_type="pt",
    )


def _time_arms(arms: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for counted in range(-1, rounds):
        for name, arm in arms.items():
            _wait(device)
            start = time.perf_counter()
            arm()
            _wait(device)
            if counted >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def to_rows(
    seconds: dict[str, list[float]],
    config: SpeedBenchConfig,
    size: int,
    batch: int,
    compiled: bool,
    tera: float,
    peak: float,
) -> list[Row]:
    """Rows of one set.

    Args:
        seconds: of each round of each arm; `diffusers` and `ip2p` are what the others are compared with.
        config: gives the number of steps.
        size: side of the pictures in pixels.
        batch: pictures in one edit.
        compiled: whether the UNet was compiled.
        tera: operations of the UNet for one sample, in units of 10^12.
        peak: operations per second the machine can do, in units of 10^12.
    """
    rows: list[Row] = []
    for name, times in seconds.items():
        to_diffusers = [a / b for a, b in zip(times, seconds["diffusers"], strict=True)]
        to_ip2p = [a / b for a, b in zip(times, seconds["ip2p"], strict=True)]
        median = statistics.median(times)
        rows.append(
            {
                "method": name,
                "set": f"{size} px, batch {batch}, {config.steps} steps, {'compiled' if compiled else 'eager'}",
                "seconds": median,
                "seconds_per_view": median / batch,
                "ratio_to_diffusers": statistics.median(to_diffusers),
                "ratio_to_ip2p": statistics.median(to_ip2p),
                "share_of_peak": 3 * batch * config.steps * tera / median / peak,
            }
        )
    return rows


def count_unet_tera(architecture: Architecture, size: int) -> float:
    """Floating-point operations of one UNet forward of one sample, in units of 10^12."""
    backbone = Backbone.build(architecture, device="meta", dtype="float32")
    side = size // backbone.vae_scale_factor
    latents = torch.empty(1, backbone.latent_channels, side, side, device="meta")
    embeds = torch.empty(1, _TOKENS, int(backbone.unet.config.cross_attention_dim), device="meta")
    conditioning = Conditioning(branches=("text",), embeds=embeds, channels=latents)
    counter = FlopCounterMode(display=False)
    with counter:
        backbone.predict(latents, torch.zeros(1, device="meta"), conditioning)
    return counter.get_total_flops() / 1e12


def measure_matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Best rate of a large matrix product, in units of 10^12 operations per second."""
    side = 1536 if device.type == "cpu" else 8192
    a = torch.randn(side, side, device=device, dtype=dtype)
    best = 0.0
    for _ in range(8):
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, a)
        _wait(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e12)
    return best


def _wait(device: torch.device) -> None:
    """Let a device finish what was queued; a CPU queues nothing."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
