"""From a phrase to a mask: what a segmenter gives, and which of the objects it finds are taken.

Source: InstructEdit (arXiv 2305.18047), section 3.3. Two segmenters stand behind the same contract: GroundingDINO with
SAM (`grounded_sam.py`), the paper's, and CLIPSeg (`clipseg.py`), smaller, which also belongs to the embedded set.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.errors import InputError, NothingFoundError
from ..core.types import Image
from .grounding_options import GroundingConfig, MaskMode
from .language_phrases import many, parse_noun


@dataclass(frozen=True, kw_only=True)
class Found:
    """What answers one phrase in one picture."""

    phrase: str
    mask: Float[Tensor, "1 height width"]
    """0 or 1 at the size of the picture, on its device; never all 0."""
    boxes: Float[Tensor, "boxes 4"]
    """All candidates in pixels, x1 y1 x2 y2, within the picture; the mask may cover fewer."""
    scores: Float[Tensor, " boxes"]
    """Of the candidates, in [0, 1]."""
    labels: tuple[str, ...] = ()
    """The words of the phrase each candidate answers, where the segmenter tells."""


class OnlySpecksError(NothingFoundError):
    """All that answers the phrase is too small to count."""

    def __init__(self, phrase: str, *, min_area: float) -> None:
        super().__init__(phrase)
        self.min_area = min_area
        self.args = (
            f"only specks found for {phrase!r}, each under {100 * min_area:.3g} % of the picture: name it differently, "
            "lower --grounding.min-area or give a mask",
        )


@runtime_checkable
class Grounder(Protocol):
    """Anything that finds phrases in pictures."""

    def ground(self, image: Image, phrases: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        """What answers each phrase, per picture of the batch and per phrase.

        Raises:
            NothingFoundError: if nothing in a picture answers a phrase.
            InputError: if there are no phrases, or one is empty or too long.
        """
        ...


def check_phrases(phrases: Sequence[str], *, count_tokens: Callable[[str], int], limit: int) -> None:
    """Refuse what a segmenter cannot look for.

    Args:
        phrases: what is to be found.
        count_tokens: how many tokens the segmenter makes of a phrase.
        limit: most tokens the segmenter reads.

    Raises:
        InputError: if there are no phrases, or one is empty or too long.
    """
    if not phrases:
        raise InputError("expected at least one phrase to look for, got none: name the object")
    for phrase in phrases:
        if not re.search(r"\w", phrase):
            raise InputError(f"expected a phrase to look for, got {phrase!r}: name the object")
        length = count_tokens(phrase)
        if length > limit:
            raise InputError(f"expected a phrase of at most {limit} tokens, got {length}: shorten {phrase[:40]!r}...")


def choose_mode(mode: MaskMode, phrase: str) -> Literal["max", "merge", "first"]:
    """The rule for a phrase; its neighbours do not count, because each phrase has candidates of its own.

    Differs from the paper: it does not say which mask is taken; its code takes the first box whatever its score.
    """
    if mode != "auto":
        return mode
    noun = parse_noun(phrase)
    return "merge" if noun is not None and many(noun) else "max"


def pick_candidates(mode: Literal["max", "merge", "first"], scores: Float[Tensor, " boxes"]) -> Int[Tensor, " picked"]:
    """Indices of the candidates whose masks are united; there must be at least one candidate."""
    if mode == "merge":
        return torch.arange(len(scores), device=scores.device)
    return scores.argmax()[None] if mode == "max" else torch.zeros(1, dtype=torch.long, device=scores.device)


def corners_of(boxes: Float[Tensor, "boxes 4"], *, height: int, width: int) -> Float[Tensor, "boxes 4"]:
    """Boxes given by centre and size as shares of the picture, as corners x1 y1 x2 y2 in pixels within it."""
    sides = boxes.new_tensor([width, height])
    centre, size = boxes[:, :2] * sides, boxes[:, 2:].clamp(min=0) * sides
    corners = torch.stack((centre - size / 2, centre + size / 2), 1)
    return torch.minimum(corners.clamp(min=0), sides).flatten(1)


def load_grounder(
    config: GroundingConfig,
    *,
    device: torch.device | str,
    model_dir: Path | None = None,
    offline: bool = False,
    embedded: bool = False,
) -> Grounder:
    """Load a segmenter.

    Args:
        config: which one, and its thresholds.
        device: where it runs.
        model_dir: folder with local copies, looked up before the hub.
        offline: never ask the hub.
        embedded: whether the editor itself runs on the embedded set.

    Raises:
        ModelError: if a checkpoint is missing or incomplete.
    """
    config = config.resolved(embedded=embedded)
    if config.segmenter == "clipseg":
        from .clipseg import load_clipseg

        return load_clipseg(config, device=device, model_dir=model_dir, offline=offline)
    from .grounded_sam import load_grounded_sam

    return load_grounded_sam(config, device=device, model_dir=model_dir, offline=offline)
