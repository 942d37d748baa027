"""The methods of InstructBrush's tables (arXiv 2403.18660, section 5), and how each of them learns.

- `unedited`, and `round-trip`, the truth through the autoencoder: what doing nothing gives, and the most a method can
  reach whose pictures come out of it.
- `ip2p`: InstructPix2Pix by the best words a person would use.
- `visii`: one text embedding, begun from the content of the first picture after the edit.
- `instructbrush`, begun from what tells the two sides apart, or from the empty text where nobody finds that.
- `without-attention` learns embeddings in place of keys and values, `without-time` the same ones for all times;
  `without-initialisation` begins as Visii does.

All that learn see the same number of noisy pictures: `steps` for each of five parts of the noise range, or five times
as many where the parts are one.
Differs from the paper: Visii has as many steps as the others and keeps its last tensors, since those of the lowest
single loss are almost arbitrary ones. Where the pairs come with a caption, nobody has to search one.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from ..editors import BrushRecipe, CaptionSearchConfig, ClipScorer, PhraseConfig, find_phrases, search_caption
from .brush_sets import BrushSet

BrushMethod: TypeAlias = Literal[
    "unedited",
    "round-trip",
    "ip2p",
    "visii",
    "instructbrush",
    "without-attention",
    "without-time",
    "without-initialisation",
]

ABLATIONS: tuple[BrushMethod, ...] = ("without-attention", "without-time", "without-initialisation")
LEARNED: tuple[BrushMethod, ...] = ("visii", "instructbrush", *ABLATIONS)
SEGMENTS = 5
"""Parts of the noise range."""
VISII_DIRECTION_WEIGHT = 0.1


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How brushes are learned; the rates, chosen on validation pairs, suit the embedded set; published: 1e-3."""

    steps: int = 200
    """Gradient steps of each of the five parts of the noise range, at least 1; published: 1000."""
    learning_rate: float = 1e-1
    """Rate at which keys and values are learned, above 0."""
    embedding_rate: float = 1e-1
    """Rate at which embeddings are learned, by Visii and without attention, above 0."""
    seed: int = 0
    """Seed of every draw."""
    chunk: int | None = None
    """Most pictures run at once, to save memory; None = all."""
    phrases: PhraseConfig = field(default_factory=PhraseConfig)
    """How phrases that tell the sides apart are found; read where there is a CLIP."""
    caption: CaptionSearchConfig = field(default_factory=CaptionSearchConfig)
    """How a caption is searched where nobody gives one; read where there is a CLIP."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        for name in ("learning_rate", "embedding_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name):g}")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")


def find_beginning(
    method: BrushMethod, edit: BrushSet, shots: int, clip: ClipScorer | None, config: LearnConfig
) -> str:
    """The text that a method's learning begins from.

    Args:
        method: one that learns.
        edit: the edit.
        shots: how many of its pairs are looked at.
        clip: looks at them; None = nobody does, and nothing tells the sides apart.
        config: how it looks.
    """
    pairs = edit.shots(shots)
    if method in ("visii", "without-initialisation"):
        return edit.content if clip is None or edit.content else search_caption(pairs.after, clip, config.caption)
    if clip is None:
        return ""
    return find_phrases(pairs.before, pairs.after, clip, config.phrases, known=clip.phrases).text


def make_recipe(method: BrushMethod, config: LearnConfig, *, initial_text: str = "", has_clip: bool) -> BrushRecipe:
    """How a method learns.

    Args:
        method: one that learns.
        config: steps and rates.
        initial_text: what it begins from.
        has_clip: whether Visii is told by a CLIP where the edit leads.
    """
    recipe = BrushRecipe(
        steps=config.steps,
        segments=SEGMENTS,
        learning_rate=config.learning_rate,
        seed=config.seed,
        chunk=config.chunk,
        init_text=initial_text,
    )
    at_once = replace(recipe, segments=1, steps=SEGMENTS * config.steps)
    if method == "visii":
        weight = VISII_DIRECTION_WEIGHT if has_clip else 0.0
        rates = {"learning_rate": config.embedding_rate, "direction_weight": weight}
        return replace(at_once, kind="visii", learn="embedding", clip_values=True, **rates)
    if method == "without-attention":
        return replace(recipe, learn="embedding", learning_rate=config.embedding_rate)
    return at_once if method == "without-time" else recipe
