"""Options of the editors on InstructPix2Pix, and what all editors share, in a file that imports nothing heavy.

nerfstudio imports the plugin's configuration, and with it these classes, on every command of any method; the editors
themselves, which pull in diffusers, load only when an edit is made.
"""

from dataclasses import dataclass, field
from typing import Literal

from ..core.checkpoint import SamplerName
from .language_options import LanguageConfig
from .request import KeepOutside


@dataclass(frozen=True, kw_only=True)
class CanvasConfig:
    """How pictures are brought to the model and back."""

    keep_outside: KeepOutside = "exact"
    """`exact`: every pixel outside the mask equals the condition image; `paper`: as the published method leaves it."""
    size: int | None = None
    """Longest side in pixels at which the model runs; None = the size the checkpoint was trained on."""
    mask_dilate: int = 0
    """Pixels by which the final mask grows (negative: shrinks)."""
    mask_feather: int = 0
    """Pixels over which the final mask's edge softens, inwards."""
    chunk: int | None = None
    """Most pictures run at once; None = all, halved whenever memory runs out."""

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 16:
            raise ValueError(f"size must be at least 16 pixels, got {self.size}")
        if self.mask_feather < 0:
            raise ValueError(f"mask_feather must be at least 0 pixels, got {self.mask_feather}")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")


@dataclass(frozen=True, kw_only=True)
class InstructConfig(CanvasConfig):
    """Settings of a denoising run. None = the checkpoint's own preset; the published value is named with each."""

    sampler: SamplerName | None = None
    """How to step; published: euler_ancestral."""
    steps: int | None = None
    """Steps over the whole noise range, at least 1; published: 100."""
    guidance_scale: float | None = None
    """Text guidance S_T, above 1; published: 7.5."""
    image_guidance_scale: float | None = None
    """Image guidance S_I, at least 1; published: 1.5."""
    noise_level: float | None = None
    """Share of the noise range to start from, in (0, 1]; published: 1 for InstructPix2Pix, 0.8 for FoI."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise ValueError(f"steps must be in [1, 1000], got {self.steps}")
        if self.guidance_scale is not None and self.guidance_scale <= 1:
            raise ValueError(f"guidance_scale must be above 1, got {self.guidance_scale:g}")
        if self.image_guidance_scale is not None and self.image_guidance_scale < 1:
            raise ValueError(f"image_guidance_scale must be at least 1, got {self.image_guidance_scale:g}")
        if self.noise_level is not None and not 0 < self.noise_level <= 1:
            raise ValueError(f"noise_level must be in (0, 1], got {self.noise_level:g}")


@dataclass(frozen=True, kw_only=True)
class IP2PConfig(InstructConfig):
    """Settings of InstructPix2Pix."""


@dataclass(frozen=True, kw_only=True)
class FoIConfig(InstructConfig):
    """Settings of FoI (Focus on Your Instruction); the defaults are the paper's, section 5.1."""

    mask_threshold: float | Literal["sample"] | None = None
    """tau: level of the sharpened attention map that counts as inside, in (0, 1]; `sample` draws it from U(0.4, 0.7)
    as the paper does; published single value here: 0.55."""
    mask_squarings: int | None = None
    """gamma: how often the map is squared and normalised, at least 0; published: 3."""
    mask_stride: int | None = None
    """Latent cells per cell of the maps the masks are read from; published: 4 (16 x 16 at 512 pixels)."""
    mask_stages: tuple[Literal["down", "mid", "up"], ...] | None = None
    """Parts of the UNet whose maps are averaged; published: all."""
    mask_blur: bool = True
    """Blur the maps before squaring, 3 x 3 with sigma 0.5."""
    mask_resize: Literal["nearest", "bilinear"] = "nearest"
    """How masks are brought to the resolution of each attention layer."""
    extract_at: float = 0.0
    """Share of the executed steps after which masks are read, in [0, 1); before, the run is plain InstructPix2Pix."""
    modulation_end: float = 1.0
    """Share of the executed steps after which attention is left alone, in [0, 1]."""
    disentangle_end: float = 0.75
    """Share of the executed steps during which text guidance acts inside the masks only, in [0, 1]."""
    boost: float = 0.05
    """xi at timestep 1000, in [0, 1); xi(t) = boost * t^4. 0 = instructions are confined but not emphasised."""
    boost_max: Literal["query", "space", "all"] = "query"
    """Over what the maximum in Eq. 6 is taken: the keys of one query, the queries of one key, or both."""
    boost_time: Literal["train", "executed"] = "train"
    """t as a share of the training timesteps, or of the first executed one."""
    special_tokens: Literal["union", "ones", "zeros"] = "union"
    """Where start, end and padding tokens keep the prompt's own attention."""
    swap_values: bool = False
    """Outside all masks, also use the values of the empty instruction instead of the prompt's."""
    rerun_first_step: bool = False
    """Evaluate the first step again with modulation once the masks are known (one more UNet call)."""
    split: bool = True
    """Take an instruction that asks for several edits apart, each with its own region."""
    language: LanguageConfig = field(default_factory=LanguageConfig)
    """Who takes instructions apart; a language model also chooses the keywords."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.mask_threshold, int | float) and not 0 < self.mask_threshold <= 1:
            raise ValueError(f"mask_threshold must be in (0, 1], got {self.mask_threshold:g}")
        if self.mask_squarings is not None and not 0 <= self.mask_squarings <= 10:
            raise ValueError(f"mask_squarings must be in [0, 10], got {self.mask_squarings}")
        if self.mask_stride is not None and self.mask_stride < 1:
            raise ValueError(f"mask_stride must be at least 1, got {self.mask_stride}")
        if self.mask_stages is not None and not self.mask_stages:
            raise ValueError("mask_stages must name at least one of down, mid, up, got none")
        if not 0 <= self.boost < 1:
            raise ValueError(f"boost must be in [0, 1), got {self.boost:g}")
        if not 0 <= self.extract_at < 1:
            raise ValueError(f"extract_at must be in [0, 1), got {self.extract_at:g}")
        for name in ("modulation_end", "disentangle_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name):g}")
        if self.rerun_first_step and self.extract_at:
            raise ValueError("rerun_first_step reads the masks at the first step: leave extract_at at 0")
