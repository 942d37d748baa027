"""How SmartEdit is trained: what decides the weights, and what only decides how a run is carried out; light.

The defaults are those of the published second stage (SmartEdit, arXiv 2312.06739, section 5.1, and the authors' code).
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..core.optimize import OptimizeConfig

SmartEditStage: TypeAlias = Literal["1", "2a", "2b"]
"""What is trained: 1 = QFormer and new tokens, on captions; 2a = the UNet and LoRA too, on edits and talks; 2b = BIM
too."""


@dataclass(frozen=True, kw_only=True)
class SmartEditRecipe:
    """Everything beside the samples that decides the weights."""

    steps: int = 15000
    """Gradient steps."""
    batch: int = 128
    """Samples of a step, over all processes and micro-batches."""
    micro_batch: int = 2
    """Samples that go through the networks at once; fewer need less memory, and may be taken in the middle of a run.
    What `dropout` drops depends on it; beside that, only last digits do."""
    learning_rate: float = 1e-5
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What the learning rate does after the warm-up."""
    warmup_share: float = 0.0
    """Share of the steps with a rising learning rate, in [0, 1]."""
    weight_decay: float = 0.0
    """AdamW weight decay."""
    max_grad_norm: float = 1.0
    """Gradient norm above which gradients are scaled down."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights, in [0, 1); 0 = keep the last weights."""
    size: int = 256
    """Side of the pictures in pixels; they are squashed to it."""
    talk_weight: float = 1.0
    """Factor on what the language model's words cost."""
    diffusion_weight: float = 1.0
    """Factor on the diffusion loss; in stage 1, on the distance to the text encoder."""
    drop_share: float = 0.05
    """Share of edits that lose what was read; as many lose the picture, and as many both; at most 1/3."""
    drop_features: bool = False
    """Whether an edit that loses what was read also loses BIM's features; the paper keeps them."""
    dropout: bool = True
    """Whether LoRA and QFormer drop numbers at random; of all draws, only these depend on the micro-batches."""
    high_noise: bool = False
    """Whether high noise levels are drawn more often, as small worlds need; the paper draws all alike."""
    changed_weight: float = 0.0
    """Extra weight of latents that truly change; 0 in the paper."""
    keep_without_text: bool = False
    """Whether an edit that loses only what was read is to come back unchanged; the paper does not ask for it."""
    seed: int = 0
    """Seed of every draw: noise, noise levels, templates and what is dropped."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "micro_batch", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name):g}")
        for name in ("talk_weight", "diffusion_weight", "changed_weight", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name):g}")
        for name, most in (("warmup_share", 1.0), ("drop_share", 1 / 3), ("ema_decay", 0.999999)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be in [0, {most:g}], got {getattr(self, name):g}")

    @property
    def optimize(self) -> OptimizeConfig:
        """Rates, averages and the seed as the loop takes them."""
        return OptimizeConfig(
            steps=self.steps,
            learning_rate=self.learning_rate,
            final_share=1.0 if self.schedule == "constant" else 0.0,
            warmup_steps=round(self.warmup_share * self.steps),
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            ema_decay=self.ema_decay,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class SmartEditRun:
    """What changes nothing about the weights."""

    save_every: int = 500
    """Steps between saves of the state, from which a run that was killed goes on."""
    export_every: int = 0
    """Steps between checkpoints; 0 = one, at the end."""
    report_every: int = 50
    """Steps between reports and lines of the log."""
    workers: int = 2
    """Processes that read samples ahead; 0 = none, samples are read when they are due."""
    checkpointing: bool = False
    """Whether language model and UNet compute again in the backward pass what does not fit into memory."""
    strict: bool = False
    """Whether a sample that cannot be read ends the run; else the next one of its set takes its place, and
    `skipped.txt` in the run's folder tells why."""

    def __post_init__(self) -> None:
        for name, low in (("save_every", 1), ("report_every", 1), ("export_every", 0), ("workers", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
