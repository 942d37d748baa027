"""Sizes of everything between the language model and the UNet; light.

Source: SmartEdit, arXiv 2312.06739, section 5.1, and the released form of its networks.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Interaction: TypeAlias = Literal["two-way", "image-only", "none"]
"""How what was read and the picture's features meet: BIM, SimpleCA (section 5.3: the picture's features look at what
was read, which stays as it is), or not at all."""


@dataclass(frozen=True, kw_only=True)
class SmartEditArchitecture:
    """The defaults are those of the released weights."""

    image_tokens: int = 32
    """r: tokens at which the language model says what to edit."""
    queries: int = 77
    """Rows of the context that the UNet reads."""
    context_width: int = 768
    """Width of those rows."""
    qformer_layers: int = 6
    qformer_heads: int = 12
    qformer_intermediate: int = 3072
    """Width of the feed-forward part of the QFormer."""
    cross_every: int = 2
    """Every how many layers of the QFormer look at the language model, beginning with the first."""
    interaction: Interaction = "two-way"
    """Published ablations are `none` and `image-only`."""
    interaction_width: int = 1024
    """Width of BIM; that of the picture's features."""
    interaction_depth: int = 2
    """Blocks of BIM; the paper's figure has 1."""
    interaction_heads: int = 8
    interaction_mlp: int = 2048
    final_attention: bool = True
    """Whether what was read looks at the picture once more in the end; the paper's figure does not have it."""
    residual_scale: float = 0.5
    """Factor on what BIM adds to what was read."""
    unet_width: int = 320
    """Channels of the UNet's first level, which BIM adds to."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for width, heads in (("context_width", "qformer_heads"), ("interaction_width", "interaction_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{width} must be a multiple of {heads}, got {getattr(self, width)}")
        if self.residual_scale <= 0:
            raise ValueError(f"residual_scale must be above 0, got {self.residual_scale:g}")
