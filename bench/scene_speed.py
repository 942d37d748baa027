"""How many views a minute can be edited: Instruct-NeRF2NeRF's edit call against ours, in batches of views.

All arms run the same networks in one process, in turn; each row is the best of several rounds, because whatever else a
machine does can only make a round longer. Rendering, storing and training are no part of it. Arms:

- `in2n`: the published call, one view at a time (`scene_in2n.py`).
- `ip2p`: InstructPix2Pix on whole pictures, as many views at once as `views` says.
- `foi`: the same within masks, which are there from the first sweep.

Renders are new each time and photos are not, as in any sweep but the first: ours remember what a photo is encoded to.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..editors import (
    INSTRUCT_PIX2PIX,
    Architecture,
    Backbone,
    BackboneConfig,
    EditRequest,
    FoIConfig,
    Image,
    Instruction,
    IP2PConfig,
    make_editor,
)
from .blocks import vocabulary
from .embedded.tokenizer import build_tokenizer
from .scene_in2n import In2nEdit
from .scene_watch import wait_for
from .table import Document, Row, make_document

_TEXT, _TOKENS = "make the red cube blue", 77
_NOISE_LEVEL = 0.8


@dataclass(frozen=True, kw_only=True)
class SceneSpeedBenchConfig:
    """What to time."""

    random_weights: bool = False
    """Time the published architecture with random weights in place of a checkpoint."""
    size: int | None = None
    """Side of the pictures in pixels, at least 64; None = the checkpoint's own; with random weights 512."""
    steps: int = 20
    """Denoising steps of one edit, at least 1."""
    batches: tuple[int, ...] = (1, 4, 8)
    """Views edited at once by ours, each at least 1."""
    rounds: int = 5
    """Timed rounds after one warm-up, at least 1."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("rounds", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.size is not None and self.size < 64:
            raise ValueError(f"size must be at least 64 pixels, got {self.size}")
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"batches must be at least one number of views, each at least 1, got {self.batches}")


def run_scene_speed_bench(
    checkpoint: BackboneConfig,
    config: SceneSpeedBenchConfig | None = None,
    *,
    architecture: Architecture = INSTRUCT_PIX2PIX,
) -> Document:
    """Time every arm.

    Args:
        checkpoint: which one edits, or on which device and in which precision random weights do.
        config: what to time.
        architecture: the networks that get random weights.
    """
    config = config or SceneSpeedBenchConfig()
    if config.random_weights:
        tokenizer = build_tokenizer(vocabulary(), length=_TOKENS)
        backbone = Backbone.build(architecture, device=checkpoint.device, dtype=checkpoint.dtype, tokenizer=tokenizer)
    else:
        backbone = Backbone.load(checkpoint, "instruct-pix2pix")
    size = config.size or backbone.native_size
    seconds = time_arms(make_arms(backbone, config, size), config.rounds, backbone.device)
    name = f"{size} px, {config.steps} steps"
    return make_document(
        "scene-speed", to_rows(seconds, name), backbone.device, model=backbone.name, dtype=str(backbone.dtype)
    )


def make_arms(
    backbone: Backbone, config: SceneSpeedBenchConfig, size: int
) -> dict[tuple[str, int], Callable[[], Image]]:
    """What is timed, by name and number of views."""
    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {"sampler": "ddim", "steps": config.steps, "size": size}
    preset = backbone.preset.instruct
    published = In2nEdit(
        backbone,
        _TEXT,
        guidance_scale=preset.guidance_scale,
        image_guidance_scale=preset.image_guidance_scale,
        steps=config.steps,
    )
    photo = torch.rand(1, 3, size, size, generator=generator)
    arms: dict[tuple[str, int], Callable[[], Image]] = {
        ("in2n", 1): lambda: published(torch.rand(photo.shape, generator=generator), photo, generator)
    }
    editors = {
        "ip2p": make_editor(IP2PConfig(**options, keep_outside="paper"), backbone),
        "foi": make_editor(FoIConfig(**options), backbone),
    }
    for batch in config.batches:
        photos = torch.rand(batch, 3, size, size, generator=generator)
        mask = torch.zeros(batch, 1, size, size)
        mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
        request = EditRequest(
            image=photos,
            condition=photos,
            instructions=(Instruction(text=_TEXT),),
            noise_levels=(_NOISE_LEVEL,) * batch,
        )
        masked = replace(request, instructions=(Instruction(text=_TEXT, mask=mask),))
        for name, editor in editors.items():

            def edit(editor: Any = editor, request: EditRequest = masked if name == "foi" else request) -> Image:
                render = torch.rand(request.image.shape, generator=generator)
                return editor.edit(replace(request, image=render)).image

            arms[name, batch] = edit
    return arms


def time_arms(
    arms: Mapping[tuple[str, int], Callable[[], Image]], rounds: int, device: torch.device
) -> dict[tuple[str, int], float]:
    """Seconds of the fastest round of each arm, after one round that is not counted."""
    best = dict.fromkeys(arms, float("inf"))
    for counted in range(-1, rounds):
        for name, arm in arms.items():
            wait_for(device)
            start = time.perf_counter()
            arm()
            wait_for(device)
            if counted >= 0:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def to_rows(seconds: Mapping[tuple[str, int], float], name: str) -> list[Row]:
    """The table; `ratio_to_in2n` above 1 is more views a minute.

    Args:
        seconds: of an edit by each arm, `in2n` with one view among them.
        name: of the set.
    """
    published = seconds["in2n", 1]
    return [
        {
            "method": method,
            "set": name,
            "views": views,
            "seconds_edit": spent / views,
            "edits_per_minute": 60 * views / spent,
            "ratio_to_in2n": published * views / spent,
        }
        for (method, views), spent in seconds.items()
    ]
