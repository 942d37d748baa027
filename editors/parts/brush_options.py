"""Options of learned instructions (brushes): how one is learned, and how one edits; light.

The defaults are the paper's, InstructBrush (arXiv 2403.18660), sections 4 and 6; those of Visii (arXiv 2307.14331) are
a preset.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .grounding_options import GroundingConfig
from .options import InstructConfig

BrushKind = Literal["instructbrush", "visii"]
"""The method, and the editor, that a brush belongs to."""
Learned = Literal["attention", "embedding"]
"""Keys and values of every cross-attention layer, or the hidden states of the text that they are projected from."""
BrushStart = Literal["text", "phrases", "content"]
"""Where learning starts: from a given text, phrases that tell the sides apart, or a caption of the pictures after."""
Kept = Literal["last", "ema", "lowest"]
"""Which tensors become the brush: the last ones, their moving average, or those of the lowest loss of a single step."""


@dataclass(frozen=True, kw_only=True)
class BrushConfig(InstructConfig):
    """Settings of an edit by a brush. None = what the brush was learned with, then the checkpoint's own preset."""

    brush: Path | None = None
    """File of the learned instruction, made by `maskedit brush learn`."""
    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    """How phrases are found, where any are given."""


@dataclass(frozen=True, kw_only=True)
class InstructBrushConfig(BrushConfig):
    """Settings of InstructBrush."""


@dataclass(frozen=True, kw_only=True)
class VisiiConfig(BrushConfig):
    """Settings of Visii."""


@dataclass(frozen=True, kw_only=True)
class BrushRecipe:
    """How a brush is learned; the defaults are InstructBrush's, sections 4 and 6."""

    kind: BrushKind = "instructbrush"
    """`instructbrush`, or the baseline `visii`: one text embedding for all times, learned from each timestep once."""
    learn: Learned = "attention"
    """What is learned: `attention`, or `embedding` as in the ablation without attention. Visii learns embeddings."""
    segments: int = 5
    """Parts of the noise range that have tensors of their own, in [1, 50]; 1 = the ablation without time."""
    steps: int = 1000
    """Gradient steps of each segment; all segments take them side by side, so this is the length of the run."""
    learning_rate: float = 1e-3
    """Rate of AdamW, above 0; constant."""
    weight_decay: float = 0.0
    """Weight decay of AdamW, at least 0."""
    batch: int = 1
    """Pairs each segment learns from at each step, at least 1."""
    cfg_train: bool = True
    """Learn through the guidance the brush is used with; False = from the prediction of the text branch alone."""
    guidance_scale: float | None = None
    """Text guidance S_T while learning and by default while editing, above 1; None = the checkpoint's own."""
    image_guidance_scale: float | None = None
    """Image guidance S_I, at least 1; None = the checkpoint's own."""
    init_text: str = ""
    """What the learning starts from; "" = from the empty text."""
    rows: int = 10
    """Learned tokens where the initial text is empty, in [0, 75]; else it has as many as the text."""
    include_bos: bool = False
    """Also learn the row of the start token, instead of that of the last token."""
    direction_weight: float = 0.0
    """Weight of the agreement of a learned embedding with the edit's way in CLIP's space, at least 0; Visii's is 0.1.
    Above 0 it needs --clip, one whose text encoder is the checkpoint's."""
    clip_values: bool = False
    """Clip every number of a gradient to the largest one of the initial embedding, as Visii does."""
    keep: Kept = "last"
    """Which tensors become the brush: `last`, `ema` or `lowest`, Visii's rule, which picks an almost arbitrary step."""
    ema_decay: float = 0.99
    """Decay of the moving average, in [0, 1); read with `ema`."""
    seed: int = 0
    """Seed of every draw."""
    chunk: int | None = None
    """Most pairs of a step run at once, to save memory; None = all. The result does not depend on it."""

    def __post_init__(self) -> None:
        for name, low, high in (("segments", 1, 50), ("steps", 1, 1_000_000), ("batch", 1, 1024), ("rows", 0, 75)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate:g}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay:g}")
        if self.direction_weight < 0:
            raise ValueError(f"direction_weight must be at least 0, got {self.direction_weight:g}")
        if self.direction_weight and self.learn != "embedding":
            raise ValueError(f"direction_weight must be 0 where {self.learn} is learned, got {self.direction_weight:g}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay:g}")
        if self.guidance_scale is not None and self.guidance_scale <= 1:
            raise ValueError(f"guidance_scale must be above 1, got {self.guidance_scale:g}")
        if self.image_guidance_scale is not None and self.image_guidance_scale < 1:
            raise ValueError(f"image_guidance_scale must be at least 1, got {self.image_guidance_scale:g}")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")
        if self.kind == "visii" and (self.learn != "embedding" or self.segments != 1):
            raise ValueError("kind visii learns one embedding: pass learn embedding and segments 1")

    def settings(self) -> dict[str, Any]:
        """What must be the same where a run goes on: all but its length and how much of a step runs at once."""
        return asdict(self) | {"steps": None, "chunk": None}


@dataclass(frozen=True, kw_only=True)
class CaptionSearchConfig:
    """How a caption of pictures is searched; the defaults are Visii's."""

    tokens: int = 10
    """Length of the caption, in [1, 75]."""
    steps: int = 3000
    """Gradient steps, at least 1."""
    learning_rate: float = 0.1
    """Rate of AdamW, above 0; constant."""
    weight_decay: float = 0.1
    """Weight decay of AdamW, at least 0."""
    seed: int = 0
    """Seed of the tokens it begins with, and of the picture each step looks at."""

    def __post_init__(self) -> None:
        for name, low, high in (("tokens", 1, 75), ("steps", 1, 1_000_000)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate:g}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay:g}")


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """How often a run is looked at, and when it ends early."""

    every: int = 100
    """Steps of a slice: then the state is saved, held-out pairs are measured and a preview is made; at least 1."""
    patience: int = 5
    """Slices without a lower loss of held-out pairs after which learning stops; 0 = never. Read where pairs are held
    out."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, got {self.patience}")
