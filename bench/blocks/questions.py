"""Questions about a picture of the blocks world, with their answers: what a reader of instructions has to know.

Several of them ask for what an instruction only hints at: which thing a reference means, and in which cell of a grid of
8 x 8 it is, counted from the upper left. They use the known and the held-out phrasings of `reading.py` alike, or the
known ones alone, as the family "meaning" always does, which asks for an instruction itself in plain words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Int8
from torch import Tensor

from .instructions import Named, Reference, draw_edits, name_blocks, vocabulary
from .pairs import horizontal_position
from .reading import name_plainly, phrase_reference, reading_vocabulary, reword_edit
from .scene import COLORS, SHAPES, SIZES, Block, OrbitCamera, Scene

QuestionFamily: TypeAlias = Literal["which", "where", "color", "shape", "size", "count", "list", "mirror", "meaning"]

GRID = 8
"""Cells of the grid along each side of a picture."""
QUESTION_SHARES: dict[QuestionFamily, float] = {
    "which": 0.22,
    "where": 0.2,
    "color": 0.08,
    "shape": 0.06,
    "size": 0.04,
    "count": 0.05,
    "list": 0.08,
    "mirror": 0.05,
    "meaning": 0.22,
}
"""How often each family is asked where a picture offers it."""
_REFERENCES: tuple[Reference, ...] = ("plain", "color", "left_right", "size", "reasoning", "mirror")
_LEAST_SHARE = 0.008
_LEAST_GAP = 3.0
"""Pixels across, of 64, from which on the order of two things is beyond doubt."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked and the one right answer."""

    family: QuestionFamily
    text: str
    answer: str
    about: Reference | None = None
    """The family of the reference in it; None = there is none."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What can be seen in one picture."""

    scene: Scene
    across: tuple[float, ...]
    """Horizontal position of each block's centre, as `name_blocks` asks for it."""
    visible: dict[int, tuple[float, float, float]]
    """Share of the picture and mean row and column, both in [0, 1), of each block that fills enough of it."""
    reflected: dict[int, tuple[float, float, float]]
    """The same of what the mirror shows."""


def look_at(
    scene: Scene,
    camera: OrbitCamera,
    index: Int8[Tensor, "height width"],
    reflection: Int8[Tensor, "height width"] | None = None,
) -> Seen:
    """Find what can be seen.

    Args:
        scene: what was rendered.
        camera: from where.
        index: which block each pixel sees, below 0 = none.
        reflection: the same in the mirror; None = there is none.
    """
    return Seen(
        scene=scene,
        across=tuple(horizontal_position(camera, block.x, block.y) for block in scene.blocks),
        visible=_places(index),
        reflected={} if reflection is None or scene.mirror is None else _places(reflection),
    )


def draw_question(
    rng: np.random.Generator,
    seen: Seen,
    *,
    family: QuestionFamily | None = None,
    only_known: bool = False,
    without: Sequence[QuestionFamily] = (),
) -> Question | None:
    """Draw a question; None where the picture offers none of its family.

    Args:
        rng: source of all randomness.
        seen: the picture.
        family: of the question; None = drawn by `QUESTION_SHARES`, again where the picture offers none.
        only_known: leave the held-out phrasings out.
        without: families that are not drawn.
    """
    askers: dict[QuestionFamily, Callable[[], Question | None]] = {
        "which": lambda: _ask_which(rng, seen, only_known),
        "where": lambda: _ask_where(rng, seen, only_known),
        "color": lambda: _ask_property(rng, seen, "color", only_known),
        "shape": lambda: _ask_property(rng, seen, "shape", only_known),
        "size": lambda: _ask_property(rng, seen, "size", only_known),
        "count": lambda: _ask_count(rng, seen),
        "list": lambda: _ask_list(seen),
        "mirror": lambda: _ask_mirror(rng, seen),
        "meaning": lambda: _ask_meaning(rng, seen),
    }
    if family is not None:
        return askers[family]()
    families: list[QuestionFamily] = [each for each in QUESTION_SHARES if each not in without]
    shares = np.array([QUESTION_SHARES[each] for each in families])
    for _ in range(8):
        question = askers[families[int(rng.choice(len(shares), p=shares / shares.sum()))]]()
        if question is not None:
            return question
    return None


def refer(
    rng: np.random.Generator, seen: Seen, families: Sequence[Reference], *, only_known: bool = False
) -> tuple[str, Named] | None:
    """Draw a phrase for something in a picture, in any wording, and what it names.

    Args:
        rng: source of all randomness.
        seen: the picture.
        families: references to draw from; those that it offers are equally likely.
        only_known: leave the held-out phrasings out.
    """
    found = {family: _names(seen, family) for family in families}
    offered = [family for family, names in found.items() if names]
    if not offered:
        return None
    names = found[offered[int(rng.integers(len(offered)))]]
    named = names[int(rng.integers(len(names)))]
    if named.family == "plain":
        return named.phrase, named
    wording = "known" if only_known or rng.random() < 0.5 else "held-out"
    return phrase_reference(rng, seen.scene, named, wording), named


def question_vocabulary() -> list[str]:
    """Every word of the questions and their answers, sorted."""
    words = "what which where how many is are the there in from left to right thing things color shape size row column"
    words += " mirror yes no nothing a , ?"
    listed = [*COLORS, *SHAPES, *SIZES, *(str(number) for number in range(GRID + 1))]
    return sorted({*words.split(), *listed, *reading_vocabulary(), *vocabulary()})


def grid_cell(place: tuple[float, float, float]) -> str:
    """The words for the cell that a place falls into."""
    return f"row {1 + int(place[1] * GRID)} column {1 + int(place[2] * GRID)}"


def _places(index: Tensor) -> dict[int, tuple[float, float, float]]:
    height, width = index.shape
    found: dict[int, tuple[float, float, float]] = {}
    for block in sorted({int(i) for i in index.unique().tolist() if i >= 0}):
        rows, columns = torch.nonzero(index == block, as_tuple=True)
        share = len(rows) / index.numel()
        if share >= _LEAST_SHARE:
            middle = ((rows.float().mean() + 0.5) / height, (columns.float().mean() + 0.5) / width)
            found[block] = (share, float(middle[0]), float(middle[1]))
    return found


def _names(seen: Seen, family: Reference) -> list[Named]:
    return name_blocks(
        seen.scene,
        family,
        visible={block: place[0] for block, place in seen.visible.items()},
        across=seen.across,
        reflected_visible={block: place[0] for block, place in seen.reflected.items()},
    )


def _ask_which(rng: np.random.Generator, seen: Seen, only_known: bool) -> Question | None:
    drawn = refer(rng, seen, ("color", "left_right", "size", "reasoning"), only_known=only_known)
    if drawn is None:
        return None
    phrase, named = drawn
    answer = name_plainly(seen.scene, named, tuple(seen.visible))
    if answer is None:
        return None
    return Question(family="which", text=f"which thing is {phrase} ?", answer=answer, about=named.family)


def _ask_where(rng: np.random.Generator, seen: Seen, only_known: bool) -> Question | None:
    drawn = refer(rng, seen, _REFERENCES, only_known=only_known)
    if drawn is None:
        return None
    phrase, named = drawn
    place = (seen.reflected if named.reflected else seen.visible)[named.targets[0]]
    return Question(family="where", text=f"where is {phrase} ?", answer=grid_cell(place), about=named.family)


def _ask_property(
    rng: np.random.Generator, seen: Seen, name: Literal["color", "shape", "size"], only_known: bool
) -> Question | None:
    drawn = refer(rng, seen, ("left_right", "size", "reasoning", "plain", "color"), only_known=only_known)
    if drawn is None:
        return None
    phrase, named = drawn
    answer = str(getattr(seen.scene.blocks[named.targets[0]], name))
    if answer in {word.removesuffix("s") for word in phrase.split()}:
        return None
    return Question(family=name, text=f"what {name} is {phrase} ?", answer=answer, about=named.family)


def _ask_count(rng: np.random.Generator, seen: Seen) -> Question | None:
    blocks = seen.scene.blocks
    if len(seen.visible) < len(blocks):  # One that is hidden counts, and cannot be seen.
        return None
    kinds = [(f"{shape}s", sum(block.shape == shape for block in blocks)) for shape in SHAPES]
    kinds += [(f"{color} things", sum(block.color == color for block in blocks)) for color in COLORS]
    kinds = [kind for kind in kinds if kind[1]] + [("things", len(blocks))]
    words, count = kinds[int(rng.integers(len(kinds)))]
    return Question(family="count", text=f"how many {words} are there ?", answer=str(count))


def _ask_list(seen: Seen) -> Question | None:
    answer = _list(seen.scene.blocks, seen.visible)
    return None if answer is None else Question(family="list", text="what is there from left to right ?", answer=answer)


def _ask_mirror(rng: np.random.Generator, seen: Seen) -> Question | None:
    if rng.random() < 0.3:
        answer = "no" if seen.scene.mirror is None else "yes"
        return Question(family="mirror", text="is there a mirror ?", answer=answer)
    if seen.scene.mirror is None:
        return None
    shown = seen.scene.blocks if seen.scene.reflected is None else seen.scene.reflected
    answer = _list(shown, seen.reflected)
    if answer is None:
        return None
    return Question(family="mirror", text="what is in the mirror from left to right ?", answer=answer)


def _ask_meaning(rng: np.random.Generator, seen: Seen) -> Question | None:
    edits = draw_edits(
        rng,
        seen.scene,
        visible={block: place[0] for block, place in seen.visible.items()},
        across=seen.across,
        reflected_visible={block: place[0] for block, place in seen.reflected.items()},
        references=dict.fromkeys(("plain", "multiple", *_REFERENCES), 1.0),
    )
    if not edits:
        return None
    named = edits[0].named
    plain = name_plainly(seen.scene, named, tuple(seen.visible))
    if plain is None:
        return None
    asked = named.phrase if named.family == "plain" else phrase_reference(rng, seen.scene, named, "known")
    text, answer = reword_edit(edits[0], asked).text, reword_edit(edits[0], plain).text
    return Question(family="meaning", text=text, answer=answer, about=named.family)


def _list(blocks: Sequence[Block], places: dict[int, tuple[float, float, float]]) -> str | None:
    """The things at some places from left to right; None where their order is in doubt."""
    ordered = sorted(places, key=lambda block: places[block][2])
    columns = [places[block][2] for block in ordered]
    if any(b - a < _LEAST_GAP / 64 for a, b in pairwise(columns)):
        return None
    return " , ".join(blocks[block].noun for block in ordered) or "nothing"
