"""Captions of a blocks scene, as a text-to-image model meets them: of some of its blocks, in any order, in any detail.

A caption-based editor is handed "photo of a red cube" more often than a sentence that names everything, so most
captions leave out blocks and words. Nothing a caption says is wrong, but it seldom says all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ..blocks.instructions import Named, Reference, name_blocks, vocabulary
from ..blocks.scene import SHAPES, Block, Scene

T = TypeVar("T")
EMPTY_CAPTIONS = ("an empty floor", "photo of an empty floor", "photo of an empty background")
"""What a picture without blocks is called."""
_FULL_SHARE = 0.2
_PREFIX_SHARE = 0.6
_ALL_SHARE = 0.5
_PLURAL_SHARE = 0.1
_REFERRING_SHARE = 0.25
_STACKED_SHARE = 0.7
_REFERRING: tuple[Reference, ...] = ("left_right", "size", "twin")
_SIZE_WORDS = {"small": ("small", "small", "smaller"), "large": ("large", "large", "larger", "bigger")}
_NOUNS = (*SHAPES, *(f"{shape}s" for shape in SHAPES), "thing", "things")


@dataclass(frozen=True, kw_only=True)
class CaptionPhrase:
    """The words of a caption that name some of its blocks."""

    words: tuple[int, ...]
    """Positions in the caption's words, the article left out."""
    noun: int
    """Position of the shape, or of `thing`."""
    blocks: tuple[int, ...]
    """Indices into `Scene.blocks`."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A sentence, and which of its words name which blocks."""

    words: tuple[str, ...]
    """A comma is a word of its own, as it is a token of its own."""
    phrases: tuple[CaptionPhrase, ...]

    @property
    def text(self) -> str:
        """The sentence."""
        return " ".join(self.words).replace(" ,", ",")


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One entry of the list a caption is: its words, and the blocks they name with where those words begin and end."""

    words: tuple[str, ...]
    named: tuple[tuple[int, int, tuple[int, ...]], ...]


def draw_caption(
    rng: np.random.Generator, scene: Scene, *, visible: Mapping[int, float], across: Sequence[float]
) -> Caption:
    """Draw a caption of what can be seen of a scene.

    Args:
        rng: source of all randomness.
        scene: what the picture shows.
        visible: visible pixel count of each block that may be named.
        across: horizontal picture position of each block's centre, left to right; negated for a mirrored picture.
    """
    if not visible:
        return Caption(words=tuple(_choose(rng, EMPTY_CAPTIONS).split()), phrases=())
    if rng.random() < _FULL_SHARE:
        return full_caption(scene, visible)
    return _join(_draw_items(rng, scene, visible, across), prefix=rng.random() < _PREFIX_SHARE)


def full_caption(scene: Scene, visible: Mapping[int, float]) -> Caption:
    """`Scene.caption` of the visible blocks."""
    if not visible:
        return Caption(words=tuple(replace(scene, blocks=()).caption.split()), phrases=())
    return _join([_item(scene.blocks[i].phrase, (i,)) for i in sorted(visible)], prefix=False)


def caption_of_block(
    rng: np.random.Generator, scene: Scene, block: int, *, visible: Mapping[int, float], across: Sequence[float]
) -> Caption:
    """Draw a caption of one block alone, as an editor asks for it; arguments as in `draw_caption`."""
    phrase = _draw_phrase(rng, scene, block, _referring(scene, visible, across))
    return _join([_item(phrase, (block,))], prefix=rng.random() < _PREFIX_SHARE)


def caption_vocabulary() -> list[str]:
    """Every word a caption can contain, and every word of an instruction, sorted."""
    own = {word for text in EMPTY_CAPTIONS for word in text.split()}
    sizes = {word for words in _SIZE_WORDS.values() for word in words}
    return sorted({*vocabulary(), *own, *sizes, *_NOUNS, "with", "middle"})


def _draw_items(
    rng: np.random.Generator, scene: Scene, visible: Mapping[int, float], across: Sequence[float]
) -> list[_Item]:
    order = [int(i) for i in rng.permutation(sorted(visible))]
    if len(order) > 1 and rng.random() >= _ALL_SHARE:
        order = order[: int(rng.integers(1, len(order)))]
    items: list[_Item] = []
    several = name_blocks(scene, "multiple", visible=visible, across=across, reflected_visible={})
    if several and rng.random() < _PLURAL_SHARE:
        group = _choose(rng, several)
        items.append(_item(group.keyword, group.targets))
        order = [i for i in order if i not in group.targets]
    referring = _referring(scene, visible, across)
    done: set[int] = set()
    for i in order:
        if i in done:
            continue
        done.add(i)
        phrase = _draw_phrase(rng, scene, i, referring)
        guest = _guest_of(scene, i)
        if guest is None or guest not in visible or guest in done or rng.random() >= _STACKED_SHARE:
            items.append(_item(phrase, (i,)))
            continue
        done.add(guest)
        items.append(_stacked_item(phrase, i, _draw_phrase(rng, scene, guest, {}), guest))
    return items


def _draw_phrase(rng: np.random.Generator, scene: Scene, block: int, referring: Mapping[int, list[Named]]) -> str:
    if block in referring and rng.random() < _REFERRING_SHARE:
        return "a " + _choose(rng, referring[block]).phrase.removeprefix("the ")
    return _draw_details(rng, scene.blocks[block])


def _draw_details(rng: np.random.Generator, block: Block) -> str:
    has_shape = rng.random() < 0.9
    words = ["a"]
    if rng.random() < 0.5:
        words.append(_choose(rng, _SIZE_WORDS[block.size]))
    if rng.random() < (0.5 if block.material == "shiny" else 0.1):
        words.append(block.material)
    if not has_shape or rng.random() < 0.85:
        words.append(block.color)
    words.append(block.shape if has_shape else "thing")
    return " ".join(words)


def _referring(scene: Scene, visible: Mapping[int, float], across: Sequence[float]) -> dict[int, list[Named]]:
    """The ways to tell each block from others of its kind."""
    found: dict[int, list[Named]] = {}
    for family in _REFERRING:
        for named in name_blocks(scene, family, visible=visible, across=across, reflected_visible={}):
            found.setdefault(named.targets[0], []).append(named)
    return found


def _guest_of(scene: Scene, block: int) -> int | None:
    """The block that stands on another one."""
    below = scene.blocks[block]
    for i, other in enumerate(scene.blocks):
        if other.z > below.z and (other.x, other.y) == (below.x, below.y):
            return i
    return None


def _item(phrase: str, blocks: tuple[int, ...]) -> _Item:
    words = tuple(phrase.split())
    return _Item(words=words, named=((int(words[0] == "a"), len(words), blocks),))


def _stacked_item(phrase: str, block: int, guest_phrase: str, guest: int) -> _Item:
    below, above = tuple(phrase.split()), tuple(guest_phrase.split())
    start = len(below) + 1
    named = ((1, len(below), (block,)), (start + 1, start + len(above), (guest,)))
    return _Item(words=(*below, "with", *above, "on", "top"), named=named)


def _join(items: Sequence[_Item], *, prefix: bool) -> Caption:
    words: list[str] = ["photo", "of"] if prefix else []
    phrases: list[CaptionPhrase] = []
    for place, item in enumerate(items):
        if place:
            words.append("and" if place == len(items) - 1 else ",")
        for start, end, blocks in item.named:
            at = tuple(range(len(words) + start, len(words) + end))
            noun = next(len(words) + k for k in range(start, end) if item.words[k] in _NOUNS)
            phrases.append(CaptionPhrase(words=at, noun=noun, blocks=blocks))
        words += item.words
    return Caption(words=tuple(words), phrases=tuple(phrases))


def _choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
