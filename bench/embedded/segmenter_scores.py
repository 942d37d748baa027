"""How well the embedded segmenter finds what phrases mean, on scenes that it has not learned from."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..blocks.scene import Split
from .phrases import Phrase, PhraseBook, PhraseFamily, draw_absent, target_mask
from .segmenter import SegmenterRecipe, TrainedSegmenter, segment_phrases, tokenize_phrases
from .views import make_views

THRESHOLDS: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Probabilities above which a pixel counts as found."""
_FIRST_VIEW = 50_000_000
_PHRASES_OF_A_FAMILY = 4
_ABSENT_PHRASES = 2


@dataclass(frozen=True, kw_only=True)
class SegmenterScores:
    """Results over many phrases."""

    phrases: dict[PhraseFamily, int]
    """How many phrases of each family were asked, absent ones included."""
    iou: dict[PhraseFamily, tuple[float, ...]]
    """For each family, the mean overlap of the mask with the truth at each of `THRESHOLDS`."""
    absent_probability: float
    """Highest probability in the picture for a phrase of something absent, mean."""
    absent_found: tuple[float, ...]
    """Share of absent phrases for which something is found all the same, at each of `THRESHOLDS`."""


@torch.no_grad()
def measure_segmenter(
    trained: TrainedSegmenter,
    recipe: SegmenterRecipe,
    *,
    device: torch.device | str,
    split: Split = "validation",
    count: int = 300,
) -> SegmenterScores:
    """Ask phrases of every family about `count` views of a split; the same views and phrases every time."""
    views = make_views(recipe.views, split, range(_FIRST_VIEW, _FIRST_VIEW + count), device=device)
    book, rng = PhraseBook(views), np.random.default_rng(0)
    overlaps: dict[PhraseFamily, list[Tensor]] = {}
    highest: list[Tensor] = []
    for view in range(count):
        asked: list[Phrase] = []
        for options in book.phrases(view).values():
            asked += [options[i] for i in rng.permutation(len(options))[:_PHRASES_OF_A_FAMILY]]
        asked += [draw_absent(rng, views.scenes[view]) for _ in range(_ABSENT_PHRASES)]
        tokens = tokenize_phrases(trained.tokenizer, [phrase.text for phrase in asked], device)
        picture = views.pictures[view : view + 1].to(device).float() / 255
        logits = segment_phrases(trained.model, picture, tokens).logits
        for phrase, probability in zip(asked, logits[0].sigmoid().cpu(), strict=True):
            if phrase.family == "absent":
                highest.append(probability.max())
            else:
                overlap = overlaps_at(probability, target_mask(views.index[view], phrase))
                overlaps.setdefault(phrase.family, []).append(overlap)
    peaks = torch.stack(highest)
    return SegmenterScores(
        phrases={**{family: len(rows) for family, rows in overlaps.items()}, "absent": len(highest)},
        iou={family: tuple(torch.stack(rows).mean(0).tolist()) for family, rows in overlaps.items()},
        absent_probability=peaks.mean().item(),
        absent_found=tuple((peaks > threshold).float().mean().item() for threshold in THRESHOLDS),
    )


def overlaps_at(
    probability: Float[Tensor, "height width"], truth: Float[Tensor, "height width"]
) -> Float[Tensor, " thresholds"]:
    """Intersection over union of what lies above each of `THRESHOLDS` with the truth, which must not be empty."""
    found = probability > torch.tensor(THRESHOLDS)[:, None, None]
    inside = truth > 0
    return (found & inside).flatten(1).sum(1) / (found | inside).flatten(1).sum(1)
