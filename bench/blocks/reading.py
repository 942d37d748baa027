"""Edits that need a reader: the same world and the same truth as `pairs.py`, other words for what is to be edited.

The two sets follow Reason-Edit (SmartEdit, arXiv 2312.06739, section 5): "understanding" names its targets by side,
relative size, mirror, colour or number, "reasoning" by what they can do or look like. Each reference family has
phrasings that edits of the training split use ("known") and others that they never use ("held-out"); a reader may know
the latter from questions (`questions.py`). Some combinations of edit, colour and shape are held out in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...editors import InputError
from .instructions import DEFAULT_KINDS, BlockEdit, EditKind, Named, Reference, name_blocks
from .pairs import EditPairs, PairSpec, make_pairs
from .scene import COLORS, SHAPES, Block, Color, Scene, Shape, Split, split_seed

ReadingSet: TypeAlias = Literal["understanding", "reasoning"]
Wording: TypeAlias = Literal["known", "held-out"]
"""Whether edits of the training split use a phrasing, or combine an edit with a colour and a shape."""

FAMILIES: dict[ReadingSet, dict[Reference, float]] = {
    "understanding": {"left_right": 0.25, "size": 0.25, "mirror": 0.15, "color": 0.15, "multiple": 0.2},
    "reasoning": {"reasoning": 1.0},
}
"""Shares of the ways to name a target in each set."""
_PHRASINGS: dict[Reference, dict[Wording, tuple[str, ...]]] = {
    "left_right": {
        "known": ("the {side} {noun}", "the {noun} on the {side}"),
        "held-out": ("the {noun} that is on the {side} side", "the {noun} farthest to the {side}"),
    },
    "size": {
        "known": ("the {size} {noun}", "the {noun} that is {size}"),
        "held-out": ("the {size} one of the two {noun}s", "the {noun} that is {size} than the other {noun}"),
    },
    "mirror": {
        "known": ("the {words} in the mirror", "the {words} seen in the mirror"),
        "held-out": ("the reflection of the {words}", "the {words} that the mirror shows"),
    },
    "color": {
        "known": ("the {color} thing", "the {color} block"),
        "held-out": ("the thing that is {color}", "the {color} object"),
    },
    "multiple": {
        "known": ("all {words}", "all the {words}"),
        "held-out": ("every one of the {words}", "each of the {words}"),
    },
}
_LOOKS: dict[Shape, dict[Wording, tuple[str, ...]]] = {
    "sphere": {
        "known": (
            "the thing that can roll in every direction",
            "the thing that looks like a ball",
            "the thing shaped like an orange",
        ),
        "held-out": ("the thing that is round from every side", "the thing shaped like a globe"),
    },
    "cube": {
        "known": ("the thing that has corners", "the thing that looks like a box", "the thing that cannot roll"),
        "held-out": ("the thing that has six faces", "the thing shaped like a die"),
    },
    "cylinder": {
        "known": (
            "the thing that looks like a can",
            "the thing that rolls only one way",
            "the thing shaped like a drum",
        ),
        "held-out": ("the thing that has two round faces", "the thing shaped like a candle"),
    },
}
_LIKENESS: dict[Color, tuple[str, str, str]] = {
    "red": ("a tomato", "a cherry", "blood"),
    "green": ("grass", "a frog", "a leaf"),
    "blue": ("the sea", "a sapphire", "the sky"),
    "yellow": ("a lemon", "a banana", "the sun"),
    "purple": ("grapes", "lavender", "a plum"),
    "cyan": ("shallow water", "turquoise", "mint ice"),
    "white": ("snow", "milk", "a swan"),
    "black": ("coal", "night", "a raven"),
}
"""Two things of each colour that known phrasings speak of, and one for held-out ones."""
_COLORED: dict[Wording, tuple[str, ...]] = {
    "known": ("the thing that has the color of {thing}",),
    "held-out": ("the thing that is colored like {thing}",),
}
_MOST_DRAWS = 64
_SIDES = ("left", "middle", "right")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reference compares, which decides how it can be said."""

    words: dict[str, str]
    """What the phrasings of its family leave open."""
    looks: Shape | None = None
    """The shape that a reasoning reference speaks of; None = the colour."""
    color: Color | None = None


def make_reading_pairs(
    split: Split,
    indices: Sequence[int],
    *,
    which: ReadingSet,
    phrasing: Wording = "known",
    combinations: Wording | None = None,
    families: dict[Reference, float] | None = None,
    kinds: dict[EditKind, float] | None = None,
    height: int = 64,
    samples: int = 2,
    device: torch.device | str = "cpu",
) -> EditPairs:
    """Draw and render pairs with one edit each; the same arguments give the same pairs.

    Args:
        split: which range of scene seeds to draw from.
        indices: numbers of pairs within the split, up to a million.
        which: the set.
        phrasing: whose words to use for the target.
        combinations: of edit, colour and shape: `known` ones, `held-out` ones, or None = known ones in the training
            split and any elsewhere.
        families: shares of the reference families; None = those of the set.
        kinds: shares of the kinds of edit; None = those of the standard sets.
        height: side of the square pictures in pixels.
        samples: anti-aliasing, rays per pixel along each axis.
        device: where to render.

    Raises:
        InputError: if there are no indices, or a family belongs to another set, or the scenes do not offer the edits.
    """
    families = FAMILIES[which] if families is None else families
    if not len(indices):
        raise InputError("expected at least one index, got none")
    if foreign := [family for family in families if family not in FAMILIES[which]]:
        raise InputError(f"expected families of {which} ({', '.join(FAMILIES[which])}), got {foreign[0]!r}")
    if combinations is None and split == "train":
        combinations = "known"
    kinds = DEFAULT_KINDS if kinds is None else kinds
    waiting = dict.fromkeys(indices, 0)
    done: dict[int, EditPairs] = {}
    while waiting:
        groups: dict[Reference, list[int]] = {}
        for index in waiting:
            groups.setdefault(_draw_family(split, index, families), []).append(index)
        for family, group in groups.items():
            pairs = make_pairs(
                split,
                [index * _MOST_DRAWS + waiting[index] for index in group],
                height=height,
                kinds=kinds,
                references={family: 1.0},
                mirror=family == "mirror",
                samples=samples,
                device=device,
            )
            for row, index in enumerate(group):
                waiting[index] += 1
                if combinations in (None, combination_of(pairs.specs[row])):
                    done[index] = _reword(_pick(pairs, row), phrasing, seed=split_seed(split, index))
                    del waiting[index]
                elif waiting[index] == _MOST_DRAWS:
                    raise InputError(
                        f"{_MOST_DRAWS} pairs in a row had no {combinations} combination (index {index}, kinds "
                        f"{list(kinds)}): ask for more kinds"
                    )
    return _join([done[index] for index in indices])


def combination_of(spec: PairSpec) -> Wording:
    """Whether the training split may combine an edit with the colour and shape of its targets."""
    edit = spec.edits[0]
    blocks = [_shown(spec.scene, edit.named)[target] for target in edit.named.targets]
    return "held-out" if any(is_held_out(edit.kind, block) for block in blocks) else "known"


def is_held_out(kind: EditKind, block: Block) -> bool:
    """Whether a kind of edit of a colour and shape is held out: one colour for each kind and shape."""
    numbers = tuple(DEFAULT_KINDS).index(kind) if kind in DEFAULT_KINDS else len(DEFAULT_KINDS)
    return (tuple(COLORS).index(block.color) + 3 * SHAPES.index(block.shape) + numbers) % len(COLORS) == 0


def phrase_reference(rng: np.random.Generator, scene: Scene, named: Named, phrasing: Wording) -> str:
    """Other words for what a reference names, with their article."""
    reading = read_reference(scene, named)
    if named.family != "reasoning":
        if named.family not in _PHRASINGS:
            raise InputError(f"expected a reference of a reading set, got one of the family {named.family!r}")
        options = tuple(text.format(**reading.words) for text in _PHRASINGS[named.family][phrasing])
    elif reading.looks is not None:
        options = _LOOKS[reading.looks][phrasing]
    else:
        options = _color_phrases(reading.color or "red", phrasing)
    return options[int(rng.integers(len(options)))]


def read_reference(scene: Scene, named: Named) -> Reading:
    """What the words of a reference, as `name_blocks` gives them, say."""
    block = _shown(scene, named)[named.targets[0]]
    words = named.phrase.split()
    if named.family == "reasoning":
        speaks_of_color = "color" in words
        return Reading(words={}, looks=None if speaks_of_color else block.shape, color=block.color)
    side = next((word for word in words if word in _SIDES), "")
    size = next((word for word in words if word in ("smaller", "larger")), "")
    return Reading(
        words={"side": side, "size": size, "noun": block.shape, "color": block.color, "words": named.keyword}
    )


def name_plainly(scene: Scene, named: Named, visible: Sequence[int]) -> str | None:
    """The words that a plain instruction has for what a reference names; None where there are none.

    Args:
        scene: where it is.
        named: the reference.
        visible: the blocks that can be seen.
    """
    if named.family in ("mirror", "multiple"):
        return f"all {named.keyword}" if named.family == "multiple" else f"the {named.keyword} in the mirror"
    shown = dict.fromkeys(visible, 1.0)
    plain = name_blocks(scene, "plain", visible=shown, across=[], reflected_visible={})
    return next((option.phrase for option in plain if option.targets == named.targets), None)


def reading_vocabulary() -> list[str]:
    """Every word that the phrasings of both sets add to those of the standard ones, sorted."""
    texts = [text for family in _PHRASINGS.values() for row in family.values() for text in row]
    texts += [text for shape in _LOOKS.values() for row in shape.values() for text in row]
    texts += [text for color in _LIKENESS for wording in _COLORED for text in _color_phrases(color, wording)]
    words = {word for text in texts for word in text.split() if "{" not in word}
    return sorted(words | {f"{shape}s" for shape in SHAPES} | {"larger", "left", "middle", "right", "smaller"})


def _color_phrases(color: Color, phrasing: Wording) -> tuple[str, ...]:
    things = _LIKENESS[color][:2] if phrasing == "known" else _LIKENESS[color][2:]
    return tuple(text.format(thing=thing) for text in _COLORED[phrasing] for thing in things)


def _shown(scene: Scene, named: Named) -> tuple[Block, ...]:
    return scene.reflected if named.reflected and scene.reflected is not None else scene.blocks


def _draw_family(split: Split, index: int, families: dict[Reference, float]) -> Reference:
    shares = np.array(list(families.values()), dtype=float)
    rng = np.random.default_rng([split_seed(split, index), 1])
    return list(families)[int(rng.choice(len(shares), p=shares / shares.sum()))]


def _reword(pairs: EditPairs, phrasing: Wording, *, seed: int) -> EditPairs:
    """One pair with other words for its target."""
    spec = pairs.specs[0]
    edit = spec.edits[0]
    phrase = phrase_reference(np.random.default_rng([seed, 2]), spec.scene, edit.named, phrasing)
    reworded = reword_edit(edit, phrase)
    return replace(pairs, specs=(replace(spec, edits=(reworded,)),))


def reword_edit(edit: BlockEdit, phrase: str) -> BlockEdit:
    """The same edit with other words for its target."""
    # What a mirror shows and what comes in numbers is named by words that all phrasings share.
    keyword = edit.named.keyword if edit.named.family in ("mirror", "multiple") else phrase.partition(" ")[2]
    named = replace(edit.named, phrase=phrase, keyword=keyword)
    text = edit.text.replace(edit.named.phrase, phrase, 1)
    return replace(edit, text=text, keyword=edit.keyword if edit.kind == "add" else keyword, named=named)


def _pick(pairs: EditPairs, row: int) -> EditPairs:
    return EditPairs(**{name: value[row : row + 1] for name, value in vars(pairs).items()})


def _join(parts: Sequence[EditPairs]) -> EditPairs:
    def join(name: str) -> tuple[object, ...] | Tensor:
        values = [getattr(part, name) for part in parts]
        return tuple(v for row in values for v in row) if isinstance(values[0], tuple) else torch.cat(values)

    return EditPairs(**{name: join(name) for name in vars(parts[0])})  # pyright: ignore[reportArgumentType]
