"""Options of SmartEdit (arXiv 2312.06739): how its language model runs, and how it edits; light."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .grounding_options import GroundingConfig
from .options import InstructConfig

Quantize: TypeAlias = Literal["8bit", "4bit"]
"""Bits of each weight of a language model that is shrunk while it is loaded."""


@dataclass(frozen=True, kw_only=True)
class SmartEditConfig(InstructConfig):
    """Settings of SmartEdit; the defaults are the published ones."""

    template: int = 0
    """Which of the wordings that the checkpoint was trained on puts the instruction to the language model, counted from
    0."""
    drop_features: bool = False
    """Leave what the language model saw of the picture out of the branches without a text. Published: it stays in all
    branches, so that guidance cannot strengthen it."""
    mllm_device: str | None = None
    """Device of the language model, such as `cuda:1` or `cpu`; None = that of the UNet. It runs in bfloat16 on a GPU
    and in float32 on a CPU: there, one of 7 billion weights needs 28 GB."""
    quantize: Quantize | None = None
    """Load the language model with `8bit` or `4bit` weights, for less memory; None = with the checkpoint's."""
    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    """How phrases are found, where any are given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template < 0:
            raise ValueError(f"template must be at least 0, got {self.template}")
        if self.mllm_device is not None and not self.mllm_device.strip():
            raise ValueError("mllm_device must name a device such as cpu, got an empty name")
