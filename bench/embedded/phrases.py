"""What the embedded segmenter is asked: phrases for the blocks of a view, and for blocks that are not in it.

The reference families are those of the instructions (`bench/blocks/instructions.py`), without their article, and three
more: "described" names one block by any of its properties, "any" everything that fits ("red cube" where there are
two), "absent" what the scene does not hold. The words of the hard families, those that compare blocks, are never used
where they would be in doubt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..blocks.instructions import name_blocks
from ..blocks.scene import COLORS, MATERIALS, SHAPES, SIZES, Block, Scene
from .views import Views

_Named = Literal["plain", "color", "left_right", "size", "multiple", "reasoning", "twin"]
PhraseFamily = Literal[
    "plain", "color", "left_right", "size", "multiple", "reasoning", "twin", "described", "any", "absent"
]
FAMILY_WEIGHTS: dict[PhraseFamily, float] = {
    "twin": 4.0,
    "left_right": 2.5,
    "size": 2.5,
    "plain": 1.4,
    "described": 1.2,
    "any": 1.0,
    "color": 0.5,
    "multiple": 0.5,
    "reasoning": 0.2,
}
"""How often each family is asked where a view offers it; the absent ones have a share of their own."""
HARD_FAMILIES: tuple[PhraseFamily, ...] = ("left_right", "size", "twin")
_NAMED: tuple[_Named, ...] = ("plain", "color", "left_right", "size", "multiple", "reasoning", "twin")
_SIDES = {"left": "right", "right": "left"}

ATTRIBUTES: tuple[str, ...] = (
    *COLORS,
    *SHAPES,
    *SIZES,
    "shiny",
    *(f"{family} {word}" for family in ("left_right", "twin") for word in ("left", "right")),
    "twin middle",
    *(f"{family} {word}" for family in ("size", "twin") for word in ("smaller", "larger")),
)
"""What can be said about one block of a scene: its properties, and how it compares with those like it."""

WORDS: tuple[str, ...] = (*COLORS, *SHAPES, *SIZES, *MATERIALS, "left", "middle", "right", "smaller", "larger")
"""The words of phrases that decide what they mean."""


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A few words, and the blocks they mean."""

    text: str
    family: PhraseFamily
    targets: tuple[int, ...]
    """Indices into `Scene.blocks`; empty for what is absent."""
    openings: tuple[str, ...] = ("", "the ")
    """What may stand before the text."""


def list_phrases(views: Views, view: int) -> dict[PhraseFamily, list[Phrase]]:
    """Every phrase that picks out visible blocks of a view without doubt, by family; none are empty."""
    scene, visible, across = views.scenes[view], views.visible(view), views.across(view)
    found: dict[PhraseFamily, list[Phrase]] = {}
    for family in _NAMED:
        for named in name_blocks(scene, family, visible=visible, across=across, reflected_visible={}):
            article, _, text = named.phrase.partition(" ")
            openings = ("", "the ") if article == "the" else ("", "all ", "the ")
            phrase = Phrase(text=text, family=family, targets=named.targets, openings=openings)
            found.setdefault(family, []).append(phrase)
    for target in visible:
        for text in _descriptions(scene.blocks[target]):
            fitting = tuple(i for i, block in enumerate(scene.blocks) if text in _descriptions(block))
            if fitting == (target,):
                found.setdefault("described", []).append(Phrase(text=text, family="described", targets=fitting))
            phrase = Phrase(text=text, family="any", targets=fitting, openings=("", "a "))
            if phrase not in found.get("any", ()):
                found.setdefault("any", []).append(phrase)
    return found


def draw_absent(rng: np.random.Generator, scene: Scene) -> Phrase:
    """A phrase for what the scene does not hold; half of them share a colour or a shape with one of its blocks."""
    present = {text for block in scene.blocks for text in _descriptions(block)}
    while True:
        color, shape, size = (str(rng.choice(list(words))) for words in (COLORS, SHAPES, SIZES))
        if scene.blocks and rng.random() < 0.5:
            near = scene.blocks[int(rng.integers(len(scene.blocks)))]
            color, shape = (near.color, shape) if rng.random() < 0.5 else (color, near.shape)
        noun = str(rng.choice([f"{color} {shape}", f"{color} {shape}", f"{color} thing", shape]))
        opening = "the " if rng.random() < 0.5 else ""
        if noun in present:
            noun = f"{size} {noun}"
            if noun not in present:
                return Phrase(text=noun, family="absent", targets=(), openings=(opening,))
            continue
        word = str(rng.choice(["", "", f"{size} ", "left ", "right ", "smaller ", "larger "]))
        side = str(rng.choice([" on the left", " on the right"])) if not word and rng.random() < 0.3 else ""
        return Phrase(text=f"{word}{noun}{side}", family="absent", targets=(), openings=(opening,))


def draw_phrase(
    rng: np.random.Generator, phrases: Mapping[PhraseFamily, list[Phrase]], scene: Scene, *, absent_share: float
) -> Phrase:
    """Draw a phrase of a view, with one of its openings put before it.

    Args:
        rng: source of all randomness.
        phrases: what `list_phrases` found.
        scene: what the view shows.
        absent_share: probability of a phrase for what is not there, in [0, 1].
    """
    if not phrases or rng.random() < absent_share:
        phrase = draw_absent(rng, scene)
    else:
        weights = np.array([FAMILY_WEIGHTS[family] for family in phrases])
        options = list(phrases.values())[int(rng.choice(len(weights), p=weights / weights.sum()))]
        phrase = options[int(rng.integers(len(options)))]
    opening = phrase.openings[int(rng.integers(len(phrase.openings)))]
    return replace(phrase, text=opening + phrase.text, openings=("",))


def attribute_table(scene: Scene, phrases: Mapping[PhraseFamily, list[Phrase]]) -> Bool[Tensor, "blocks attributes"]:
    """Which of `ATTRIBUTES` hold for each block; comparisons only where a phrase can say so."""
    table = torch.zeros(len(scene.blocks), len(ATTRIBUTES), dtype=torch.bool)
    for i, block in enumerate(scene.blocks):
        for word in (block.color, block.shape, block.size, block.material):
            if word in ATTRIBUTES:
                table[i, ATTRIBUTES.index(word)] = True
    for family in HARD_FAMILIES:
        for phrase in phrases.get(family, ()):
            name = f"{family} {phrase.text.split()[0]}"
            if name in ATTRIBUTES:
                table[phrase.targets[0], ATTRIBUTES.index(name)] = True
    return table


def target_mask(index: Int[Tensor, "height width"], phrase: Phrase) -> Float[Tensor, "height width"]:
    """Where the blocks that a phrase means are seen."""
    return torch.isin(index, torch.tensor(phrase.targets, dtype=index.dtype)).float()


def word_table(texts: Sequence[str]) -> Float[Tensor, "phrases words"]:
    """Which of `WORDS` each phrase holds, in the singular or the plural."""
    held = [{word for part in text.split() for word in (part, part.removesuffix("s"))} for text in texts]
    return torch.tensor([[float(word in words) for word in WORDS] for words in held])


def mirror_phrase(text: str) -> str:
    """The phrase for the same blocks in a picture flipped from left to right."""
    return " ".join(_SIDES.get(word, word) for word in text.split(" "))


MIRRORED_ATTRIBUTES: tuple[int, ...] = tuple(ATTRIBUTES.index(mirror_phrase(name)) for name in ATTRIBUTES)
"""For each attribute, the one whose values it takes over when the picture is flipped from left to right."""


class PhraseBook:
    """The phrases of views, found when first asked for."""

    def __init__(self, views: Views) -> None:
        """Hold the views."""
        self.views = views
        self._pages: dict[int, tuple[dict[PhraseFamily, list[Phrase]], Tensor]] = {}

    def phrases(self, view: int) -> dict[PhraseFamily, list[Phrase]]:
        """What can be asked about a view."""
        return self._page(view)[0]

    def attributes(self, view: int) -> Tensor:
        """What can be said about its blocks."""
        return self._page(view)[1]

    def _page(self, view: int) -> tuple[dict[PhraseFamily, list[Phrase]], Tensor]:
        if view not in self._pages:
            phrases = list_phrases(self.views, view)
            self._pages[view] = phrases, attribute_table(self.views.scenes[view], phrases)
        return self._pages[view]


def _descriptions(block: Block) -> list[str]:
    """Noun phrases that fit a block: any of its properties in the usual order, then its shape or "thing"."""
    materials = ("", *(f"{m} " for m in MATERIALS if m == block.material))
    words = product(("", f"{block.size} "), materials, ("", f"{block.color} "), (block.shape, "thing"))
    return [text for parts in words if (text := "".join(parts)) != "thing"]
