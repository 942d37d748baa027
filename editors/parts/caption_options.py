"""Options of the editors that read captions, in a file that imports nothing heavy; see `options.py`.

None = the checkpoint's own preset; the published value is named with each.
"""

from dataclasses import dataclass, field
from typing import Literal

from ..core.checkpoint import MaskResize
from .grounding_options import CaptionerConfig, GroundingConfig
from .language_options import LanguageConfig
from .options import CanvasConfig


@dataclass(frozen=True, kw_only=True)
class CaptionConfig(CanvasConfig):
    """Settings of a run on a checkpoint that reads captions."""

    steps: int | None = None
    """DDIM steps over the whole noise range, at least 1; published: 50."""
    guidance_scale: float | None = None
    """Text guidance, above 1; published: 7.5."""
    mask_resize: MaskResize | None = None
    """How a mask comes to the latents: `nearest` (published), or `cover` = every cell of which a fifth is inside."""
    language: LanguageConfig = field(default_factory=LanguageConfig)
    """Who turns the instruction into captions and phrases."""
    captioner: CaptionerConfig = field(default_factory=CaptionerConfig)
    """Who describes the picture to the language processor, if anyone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise ValueError(f"steps must be in [1, 1000], got {self.steps}")
        if self.guidance_scale is not None and self.guidance_scale <= 1:
            raise ValueError(f"guidance_scale must be above 1, got {self.guidance_scale:g}")


@dataclass(frozen=True, kw_only=True)
class InversionConfig(CaptionConfig):
    """Settings of editors that invert the picture and denoise it again inside a mask."""

    encoding_ratio: float | None = None
    """r: share of the noise range the picture is inverted to, in (0, 1]; published: 0.5. Higher changes more."""
    blend: Literal["aligned", "reference"] = "aligned"
    """Inverted latents put back outside the mask: those of the level just reached, or of the one before, as the
    published code has it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoding_ratio is not None and not 0 < self.encoding_ratio <= 1:
            raise ValueError(f"encoding_ratio must be in (0, 1], got {self.encoding_ratio:g}")
        if self.encoding_ratio is not None and self.steps is not None and self.encoding_ratio * self.steps < 1 - 1e-6:
            raise ValueError(
                f"encoding_ratio must be at least 1 / steps, got {self.encoding_ratio:g} with {self.steps} steps"
            )


@dataclass(frozen=True, kw_only=True)
class DiffEditConfig(InversionConfig):
    """Settings of DiffEdit (arXiv 2210.11427)."""

    mask_threshold: float | None = None
    """theta: level of the normalised noise difference that counts as inside, in (0, 1); published: 0.5."""
    mask_maps: int = 10
    """Differences averaged, each under its own noise, at least 1."""
    mask_strength: float = 0.5
    """Share of the noise range at which noise predictions are compared, in (0, 1]."""
    mask_clip: float = 3.0
    """Differences count no more than this many times their mean, above 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_threshold is not None and not 0 < self.mask_threshold < 1:
            raise ValueError(f"mask_threshold must be in (0, 1), got {self.mask_threshold:g}")
        if self.mask_maps < 1:
            raise ValueError(f"mask_maps must be at least 1, got {self.mask_maps}")
        if not 0 < self.mask_strength <= 1:
            raise ValueError(f"mask_strength must be in (0, 1], got {self.mask_strength:g}")
        if not self.mask_clip > 0:
            raise ValueError(f"mask_clip must be above 0, got {self.mask_clip:g}")


@dataclass(frozen=True, kw_only=True)
class InstructEditConfig(InversionConfig):
    """Settings of InstructEdit; the defaults are those of the paper's code."""

    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    """Who finds the objects."""
    global_edit: bool = False
    """Edit the whole picture, without looking for objects."""


@dataclass(frozen=True, kw_only=True)
class MDPConfig(CaptionConfig):
    """Settings of MDP-eps_t (arXiv 2303.16765)."""

    mix_from: float = 0.0
    """Share of the steps after which the noise of the source's path takes part, in [0, 1]."""
    mix_until: float | None = None
    """Share of the steps after which it no longer does, in [0, 1]; later = closer to the source. None = the
    checkpoint's own preset; 0.5 for published ones."""
    mix_factor: float = 1.0
    """Weight of the source's noise at the start of that window, in [0, 1]; published: 1."""
    mix_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How that weight goes on: as it is, or falling to 0 at the end of the window."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mix_from", "mix_until", "mix_factor"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value:g}")
        if self.mix_until is not None and self.mix_from > self.mix_until:
            raise ValueError(f"mix_from must be at most mix_until, got {self.mix_from:g} and {self.mix_until:g}")


@dataclass(frozen=True, kw_only=True)
class InpaintConfig(CaptionConfig):
    """Settings of grounded inpainting, the baseline of InstructEdit's section 4.5."""

    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    """Who finds the objects."""
    global_edit: bool = False
    """Paint the whole picture anew, without looking for objects."""
