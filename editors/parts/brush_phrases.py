"""Where learning starts: the phrases that tell the pictures after an edit from those before it.

InstructBrush (arXiv 2403.18660), section 4.2: of a vocabulary, the few phrases closest to each side; of these the one
that the other side answers least; the two make the initial text. Nothing told apart means no text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import InputError
from ..core.types import Image

PhraseSearch = Literal["independent", "chain"]
"""How the candidates of a side are searched: each by itself, or each as what best goes on from those before it."""
Sensitivity = Literal["relative", "cosine"]
"""How a phrase's two similarities are compared: their difference, as a share of its own side's or as it is."""
SHIPPED = Path(str(files("maskedit.editors.parts"))) / "vocabulary.txt"
"""The vocabulary that is part of maskedit."""


@runtime_checkable
class PhraseScorer(Protocol):
    """Anything that tells how well phrases describe pictures."""

    def similarity(self, image: Image, phrases: Sequence[str]) -> Float[Tensor, " phrases"]:
        """For each phrase the mean over the pictures of a cosine in [-1, 1]."""
        ...


@dataclass(frozen=True, kw_only=True)
class PhraseConfig:
    """How the initial text is found; the defaults are InstructBrush's, section 4.2, but for the sensitivity."""

    vocabulary: Path | None = None
    """File of phrases, one in a line or parted by commas, # begins a comment; None = what the CLIP brings along, or
    the one that is part of maskedit."""
    search: PhraseSearch = "independent"
    """`independent` = the phrases closest to a side; `chain` = greedily, the phrase that best continues those already
    chosen, as clip-interrogator builds its captions."""
    candidates: int = 5
    """m: phrases closest to each side that are compared, at least 1."""
    sensitivity: Sensitivity = "relative"
    """`relative` = (own - other) / own; `cosine` = own - other, which hardly ever reaches the published threshold."""
    threshold: float = 0.15
    """delta: sensitivity above which a phrase tells the sides apart, at least 0."""
    template: str = "turn {before} into {after}"
    """The initial text, with both phrases in it."""
    one_sided: bool = False
    """Where only the side after the edit has a phrase, start from "make it PHRASE" instead of the empty text."""

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        if self.threshold < 0:
            raise ValueError(f"threshold must be at least 0, got {self.threshold:g}")
        if "{before}" not in self.template or "{after}" not in self.template:
            raise ValueError(f"template must hold {{before}} and {{after}}, got {self.template!r}")


@dataclass(frozen=True, kw_only=True)
class PhraseScore:
    """A candidate of one side."""

    phrase: str
    similarity: float
    """With its own side."""
    sensitivity: float


@dataclass(frozen=True, kw_only=True)
class FoundPhrases:
    """What tells the two sides apart."""

    text: str
    """The initial text; empty where nothing does."""
    before: tuple[PhraseScore, ...]
    """Candidates of the side before the edit, the closest one first."""
    after: tuple[PhraseScore, ...]


def read_vocabulary(path: Path | None = None) -> tuple[str, ...]:
    """The phrases of a file, each once; None = the one that is part of maskedit.

    Raises:
        InputError: if it cannot be read or holds none.
    """
    place = SHIPPED if path is None else path
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the vocabulary {place} ({error}): pass --phrases.vocabulary FILE") from error
    parts = [part for line in lines for part in re.split(",", line.split("#", 1)[0])]
    phrases = tuple(dict.fromkeys(" ".join(part.split()) for part in parts if part.strip()))
    if not phrases:
        raise InputError(f"no phrases in the vocabulary {place}: write one in each line")
    return phrases


def find_phrases(
    before: Image,
    after: Float[Tensor, "batch2 3 height2 width2"],
    scorer: PhraseScorer,
    config: PhraseConfig | None = None,
    *,
    known: Sequence[str] = (),
) -> FoundPhrases:
    """The phrases that tell the pictures after an edit from those before it, and the text they make.

    Source: InstructBrush, section 4.2, Eq. 6 and 7.

    Differs from the paper: the difference of cosines is divided by the own side's, unless `sensitivity` is `cosine`;
    cosines of text and pictures differ by less than the published threshold, whatever the edit.

    Args:
        before: pictures of one side.
        after: pictures of the other.
        scorer: tells how well phrases fit pictures.
        config: the vocabulary, the threshold and the wording.
        known: phrases to choose from where the settings name no vocabulary; empty = the one that is part of maskedit.

    Raises:
        InputError: if the vocabulary cannot be read.
    """
    config = config or PhraseConfig()
    phrases = tuple(known) if known and config.vocabulary is None else read_vocabulary(config.vocabulary)
    first_side, second_side = (scorer.similarity(side, phrases).float().cpu() for side in (before, after))
    found = [
        _candidates(side, phrases, own, other, scorer, config)
        for side, own, other in ((before, first_side, second_side), (after, second_side, first_side))
    ]
    best = [max(side, key=lambda each: each.sensitivity) for side in found]
    first, second = (each.phrase if each.sensitivity > config.threshold else None for each in best)
    text = ""
    if first is not None and second is not None:
        text = config.template.replace("{before}", first).replace("{after}", second)
    elif second is not None and config.one_sided:
        text = f"make it {second}"
    return FoundPhrases(text=text, before=found[0], after=found[1])


def _candidates(
    image: Image,
    phrases: Sequence[str],
    own: Float[Tensor, " phrases"],
    other: Float[Tensor, " phrases"],
    scorer: PhraseScorer,
    config: PhraseConfig,
) -> tuple[PhraseScore, ...]:
    """The closest phrases of a side with their sensitivities."""
    difference = own - other
    if config.sensitivity == "relative":
        difference = torch.where(own > 0, difference / own.clamp(min=1e-6), 0.0)
    count = min(config.candidates, len(phrases))
    chosen: list[int] = own.topk(count).indices.tolist()
    if config.search == "chain":
        chosen = _chain(image, phrases, chosen[0], count, scorer)
    return tuple(
        PhraseScore(phrase=phrases[i], similarity=float(own[i]), sensitivity=float(difference[i])) for i in chosen
    )


def _chain(image: Image, phrases: Sequence[str], first: int, count: int, scorer: PhraseScorer) -> list[int]:
    """The closest phrase, and then what makes the closest caption behind those before it, joined by commas."""
    chosen = [first]
    while len(chosen) < count:
        caption = ", ".join(phrases[i] for i in chosen)
        left = [i for i in range(len(phrases)) if i not in chosen]
        longer = scorer.similarity(image, [f"{caption}, {phrases[i]}" for i in left])
        chosen.append(left[int(longer.argmax())])
    return chosen
