"""Edits of a blocks scene: what changes, and the sentence that asks for it.

An edit names its targets through a reference. The reference families follow SmartEdit's two scenario families
(arXiv 2312.06739, section 4.2): understanding (left or right, relative size, mirror, colour, several objects) and
reasoning ("the thing that can roll"). "twin" is this project's own: it tells blocks of the same colour and shape apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np

from .scene import COLORS, SHAPES, SIZES, Block, Color, Scene, Shape, Size

EditKind = Literal["recolor", "remove", "resize", "reshape", "material", "add"]
Reference = Literal["plain", "color", "left_right", "size", "multiple", "mirror", "reasoning", "twin"]
T = TypeVar("T")

DEFAULT_KINDS: dict[EditKind, float] = {"recolor": 0.35, "remove": 0.25, "resize": 0.15, "reshape": 0.15, "add": 0.10}
"""Shares of the kinds of edit in the standard sets. `material` changes only a highlight, so it is asked for by name."""
DEFAULT_REFERENCES: dict[Reference, float] = {
    "plain": 0.74,
    "color": 0.08,
    "left_right": 0.07,
    "size": 0.07,
    "multiple": 0.04,
}
"""Shares of the ways to name a target in the standard sets."""
FIXED_REFERENCES: dict[Reference, float] = {"plain": 0.78, "color": 0.09, "size": 0.08, "multiple": 0.05}
"""Shares of the ways to name a target that hold from every side of a scene, for many views and moving cameras."""

_SMALLEST_GAP = 0.12
"""Least distance across the picture, as a share of its half height, at which left and right are beyond doubt."""
_TWO_SIDES = (("left", "on"), ("right", "on"))
_SIDES = {2: _TWO_SIDES, 3: (_TWO_SIDES[0], ("middle", "in"), _TWO_SIDES[1])}
_TEMPLATES: dict[EditKind, tuple[str, ...]] = {
    "recolor": ("make {} {new}", "turn {} {new}", "paint {} {new}", "change {} to {new}"),
    "remove": ("remove {}", "delete {}", "take away {}"),
    "resize": ("make {} {new}",),
    "reshape": ("turn {} into a {new}", "replace {} with a {new}", "change {} to a {new}"),
    "material": ("make {} {new}",),
    "add": ("add {new} on top of {}", "put {new} on top of {}"),
}
_REASONING_SHAPE: dict[Shape, tuple[str, ...]] = {
    "sphere": ("the thing that can roll in every direction", "the thing that looks like a ball"),
    "cube": ("the thing that has corners", "the thing that looks like a box"),
    "cylinder": ("the thing that looks like a can", "the thing that rolls only one way"),
}
_REASONING_COLOR: dict[Color, str] = {
    "red": "the thing that has the color of a tomato",
    "green": "the thing that has the color of grass",
    "blue": "the thing that has the color of the sea",
    "yellow": "the thing that has the color of a lemon",
    "purple": "the thing that has the color of grapes",
    "cyan": "the thing that has the color of shallow water",
    "white": "the thing that has the color of snow",
    "black": "the thing that has the color of coal",
}


@dataclass(frozen=True, kw_only=True)
class Named:
    """A reference to one or several blocks."""

    phrase: str
    """With its article, e.g. `the left cube`."""
    keyword: str
    """The words of the phrase that should attend to the target, e.g. `left cube`."""
    targets: tuple[int, ...]
    """Indices into `Scene.blocks`."""
    family: Reference
    reflected: bool = False
    """The reference is to the image in the mirror, not to the thing itself."""


@dataclass(frozen=True, kw_only=True)
class BlockEdit:
    """One instruction and what it does."""

    kind: EditKind
    text: str
    keyword: str
    named: Named
    new: tuple[Block, ...]
    """What each target becomes (for `add`: what is put on it); empty for `remove`."""


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A block after the edits."""

    block: Block
    origin: int
    """Index of the block it was; for an added one, of the block it stands on."""
    guest_of: int | None = None
    """The edit that added it."""


def apply_edits(scene: Scene, edits: Sequence[BlockEdit]) -> tuple[Scene, tuple[tuple[int, ...], ...]]:
    """The truly edited scene, and for each edit the indices of its blocks in it.

    Untouched blocks keep their order; removed ones are dropped and added ones appended. A mirror shows the edited
    blocks too, except where an edit names the image in the mirror: that one alone changes what the mirror shows. The
    indices of such an edit count the blocks of `Scene.reflected`, which later edits of the blocks no longer change.
    """
    direct, shown = _place_blocks(scene, edits)
    where: list[tuple[int, ...]] = []
    for number, edit in enumerate(edits):
        placed = (shown or []) if edit.named.reflected else direct
        if edit.kind == "add":
            where.append(tuple(i for i, p in enumerate(placed) if p.guest_of == number))
        else:
            position = {p.origin: i for i, p in enumerate(placed) if p.guest_of is None}
            where.append(tuple(position[t] for t in edit.named.targets if t in position))
    blocks = tuple(p.block for p in direct)
    reflected = None if shown is None else tuple(p.block for p in shown)
    return replace(scene, blocks=blocks, reflected=reflected), tuple(where)


def block_origins(scene: Scene, edits: Sequence[BlockEdit]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """For each block of the edited scene, and for each one its mirror shows, the block of `scene` it was.

    An added block counts as the one it stands on, so that it can be moved along with it.
    """
    direct, shown = _place_blocks(scene, edits)
    return tuple(p.origin for p in direct), None if shown is None else tuple(p.origin for p in shown)


def _place_blocks(scene: Scene, edits: Sequence[BlockEdit]) -> tuple[list[_Placed], list[_Placed] | None]:
    numbered = list(enumerate(edits))
    direct = _place(scene.blocks, [(n, e) for n, e in numbered if not e.named.reflected])
    if scene.reflected is not None:
        return direct, _place(scene.reflected, [(n, e) for n, e in numbered if e.named.reflected])
    if any(edit.named.reflected for edit in edits):
        return direct, _place(scene.blocks, numbered)
    return direct, None


def _place(blocks: Sequence[Block], edits: Sequence[tuple[int, BlockEdit]]) -> list[_Placed]:
    placed = [_Placed(block=block, origin=i) for i, block in enumerate(blocks)]
    guests: list[_Placed] = []
    gone: set[int] = set()
    for number, edit in edits:
        for place, target in enumerate(edit.named.targets):
            if edit.kind == "remove":
                gone.add(target)
            elif edit.kind == "add":
                guests.append(_Placed(block=edit.new[place], origin=target, guest_of=number))
            else:
                placed[target] = _Placed(block=edit.new[place], origin=target)
    return [p for p in placed if p.origin not in gone] + guests


def draw_edits(
    rng: np.random.Generator,
    scene: Scene,
    *,
    visible: Mapping[int, float],
    across: Sequence[float],
    reflected_visible: Mapping[int, float] | None = None,
    count: int = 1,
    kinds: Mapping[EditKind, float] | None = None,
    references: Mapping[Reference, float] | None = None,
) -> tuple[BlockEdit, ...]:
    """Draw `count` edits of different blocks; fewer come back when the scene does not offer that many.

    Args:
        rng: source of all randomness.
        scene: the scene before the edits.
        visible: visible pixel count of each block that may be a target.
        across: horizontal picture position of each block's centre, left to right.
        reflected_visible: the same as `visible`, in the mirror.
        count: how many edits.
        kinds: shares of the kinds of edit; default `DEFAULT_KINDS`.
        references: shares of the reference families; default `DEFAULT_REFERENCES`.
    """
    kinds = DEFAULT_KINDS if kinds is None else kinds
    references = DEFAULT_REFERENCES if references is None else references
    edits: list[BlockEdit] = []
    taken: set[int] = set()
    for _ in range(count):
        edit = _draw_edit(rng, scene, visible, across, reflected_visible or {}, kinds, references, taken)
        if edit is None:
            break
        taken.update(edit.named.targets)
        edits.append(edit)
    return tuple(edits)


def name_blocks(
    scene: Scene,
    family: Reference,
    *,
    visible: Mapping[int, float],
    across: Sequence[float],
    reflected_visible: Mapping[int, float],
) -> list[Named]:
    """Every reference of one family that picks out its targets without doubt."""
    blocks = scene.blocks
    namers: dict[Reference, Callable[[], list[Named]]] = {
        "plain": lambda: _name_plainly(blocks, tuple(visible)),
        "color": lambda: [
            Named(phrase=f"the {b.color} thing", keyword=f"{b.color} thing", targets=(i,), family="color")
            for i, b in enumerate(blocks)
            if i in visible and _is_alone(blocks, i, lambda o: o.color)
        ],
        "left_right": lambda: _name_by_side(blocks, visible, across, "left_right"),
        "size": lambda: _name_by_size(blocks, visible, "size"),
        "multiple": lambda: _name_several(blocks, visible),
        "mirror": lambda: [
            replace(named, phrase=f"{named.phrase} in the mirror", family="mirror", reflected=True)
            for named in _name_plainly(_shown_blocks(scene), tuple(reflected_visible))
        ],
        "reasoning": lambda: _name_by_reason(blocks, visible),
        "twin": lambda: _name_by_side(blocks, visible, across, "twin") + _name_by_size(blocks, visible, "twin"),
    }
    return namers[family]()


def _shown_blocks(scene: Scene) -> tuple[Block, ...]:
    return scene.blocks if scene.reflected is None else scene.reflected


def _name_plainly(blocks: tuple[Block, ...], allowed: tuple[int, ...]) -> list[Named]:
    found: list[Named] = []
    for i in allowed:
        block = blocks[i]
        options = (
            (block.noun, lambda o: (o.color, o.shape)),
            (f"{block.size} {block.noun}", lambda o: (o.size, o.color, o.shape)),
            (f"{block.size} {block.shape}", lambda o: (o.size, o.shape)),
            (block.shape, lambda o: o.shape),
        )
        for words, key in options:
            if _is_alone(blocks, i, key):
                found.append(Named(phrase=f"the {words}", keyword=words, targets=(i,), family="plain"))
    return found


def _is_alone(blocks: tuple[Block, ...], index: int, key: Callable[[Block], object]) -> bool:
    return sum(key(other) == key(blocks[index]) for other in blocks) == 1


def _name_by_side(
    blocks: tuple[Block, ...], visible: Mapping[int, float], across: Sequence[float], family: Reference
) -> list[Named]:
    found: list[Named] = []
    for noun, alike in _name_alike(blocks, visible, family):
        ordered = sorted(alike, key=lambda i: across[i])
        if any(across[right] - across[left] < _SMALLEST_GAP for left, right in pairwise(ordered)):
            continue
        for (side, where), i in zip(_SIDES[len(ordered)], ordered, strict=True):
            phrases = ((f"the {side} {noun}", f"{side} {noun}"), (f"the {noun} {where} the {side}", noun))
            found += [Named(phrase=p, keyword=k, targets=(i,), family=family) for p, k in phrases]
    return found


def _name_by_size(blocks: tuple[Block, ...], visible: Mapping[int, float], family: Reference) -> list[Named]:
    found: list[Named] = []
    for noun, alike in _name_alike(blocks, visible, family):
        small, *_, large = sorted(alike, key=lambda i: SIZES[blocks[i].size])
        if len(alike) == 2 and blocks[small].size != blocks[large].size:
            found += [
                Named(phrase=f"the {word} {noun}", keyword=f"{word} {noun}", targets=(i,), family=family)
                for word, i in (("smaller", small), ("larger", large))
            ]
    return found


def _name_alike(
    blocks: tuple[Block, ...], visible: Mapping[int, float], family: Reference
) -> list[tuple[str, list[int]]]:
    """Two blocks of a shape or, for twins, two or three of a colour and shape, where all of them are visible."""
    twins = family == "twin"
    nouns = list(dict.fromkeys(block.noun for block in blocks)) if twins else list(SHAPES)
    groups = [(noun, [i for i, b in enumerate(blocks) if noun == (b.noun if twins else b.shape)]) for noun in nouns]
    return [(noun, g) for noun, g in groups if len(g) in ((2, 3) if twins else (2,)) and set(g) <= set(visible)]


def _name_several(blocks: tuple[Block, ...], visible: Mapping[int, float]) -> list[Named]:
    found: list[Named] = []
    groups = [(f"{shape}s", [i for i, b in enumerate(blocks) if b.shape == shape]) for shape in SHAPES]
    groups += [(f"{color} things", [i for i, b in enumerate(blocks) if b.color == color]) for color in COLORS]
    for words, members in groups:
        if len(members) >= 2 and set(members) <= set(visible):
            found.append(Named(phrase=f"all {words}", keyword=words, targets=tuple(members), family="multiple"))
    return found


def _name_by_reason(blocks: tuple[Block, ...], visible: Mapping[int, float]) -> list[Named]:
    found: list[Named] = []
    for i in visible:
        if _is_alone(blocks, i, lambda o: o.shape):
            phrases = _REASONING_SHAPE[blocks[i].shape]
            found += [Named(phrase=p, keyword="thing", targets=(i,), family="reasoning") for p in phrases]
        if _is_alone(blocks, i, lambda o: o.color):
            phrase = _REASONING_COLOR[blocks[i].color]
            found.append(Named(phrase=phrase, keyword="thing", targets=(i,), family="reasoning"))
    return found


def _draw_edit(
    rng: np.random.Generator,
    scene: Scene,
    visible: Mapping[int, float],
    across: Sequence[float],
    reflected_visible: Mapping[int, float],
    kinds: Mapping[EditKind, float],
    references: Mapping[Reference, float],
    taken: set[int],
) -> BlockEdit | None:
    for _ in range(12):
        family = _draw(rng, references)
        options = name_blocks(scene, family, visible=visible, across=across, reflected_visible=reflected_visible)
        options = [named for named in options if not taken & set(named.targets)]
        kind = _draw(rng, kinds)
        if kind == "add":
            options = [n for n in options if len(n.targets) == 1 and not n.reflected]
            options = [n for n in options if scene.blocks[n.targets[0]].shape != "sphere"]
        if kind == "reshape":
            options = [
                n for n in options if len(n.targets) == 1 or len({scene.blocks[t].shape for t in n.targets}) == 1
            ]
        if not options:
            continue
        return _fill_edit(rng, scene, kind, options[int(rng.integers(len(options)))])
    return None


def _fill_edit(rng: np.random.Generator, scene: Scene, kind: EditKind, named: Named) -> BlockEdit:
    blocks = _shown_blocks(scene) if named.reflected else scene.blocks
    targets = [blocks[t] for t in named.targets]
    first = targets[0]
    keyword = named.keyword
    new: tuple[Block, ...] = ()
    word = ""
    if kind == "recolor":
        color = _choose(rng, [c for c in COLORS if all(c != t.color for t in targets)])
        new, word = tuple(replace(t, color=color) for t in targets), color
    elif kind == "resize":
        size: Size = "small" if first.size == "large" else "large"
        new = tuple(replace(t, size=size) for t in targets)
        word = _choose(rng, (size, "bigger" if size == "large" else "smaller"))
        if any(
            t.size == size for t in targets
        ):  # Those already have the size, so they do not become bigger or smaller.
            word = size
    elif kind == "reshape":
        shape = _choose(rng, [s for s in SHAPES if s != first.shape])
        new, word = tuple(replace(t, shape=shape) for t in targets), shape
    elif kind == "material":
        word = "matte" if first.material == "shiny" else "shiny"
        new = tuple(replace(t, material=word) for t in targets)
    elif kind == "add":
        guest = Block(
            shape=_choose(rng, SHAPES),
            color=_choose(rng, [c for c in COLORS if c != first.color]),
            size="small",
            x=first.x,
            y=first.y,
            z=first.z + 2 * first.half,
            yaw=first.yaw,
        )
        new, word, keyword = (guest,), f"a {guest.noun}", guest.noun
    templates = _TEMPLATES[kind]
    if len(targets) > 1 and kind == "reshape":
        word += "s"
        templates = tuple(template.replace("a {new}", "{new}") for template in templates)
    text = _choose(rng, templates).format(named.phrase, new=word)
    return BlockEdit(kind=kind, text=text, keyword=keyword, named=named, new=new)


def _draw(rng: np.random.Generator, shares: Mapping[T, float]) -> T:
    names = list(shares)
    weights = np.array([shares[name] for name in names], dtype=float)
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def vocabulary() -> list[str]:
    """Every word an instruction or a caption of this world can contain, sorted."""
    phrases = [template.replace("{new}", "").replace("{}", "") for row in _TEMPLATES.values() for template in row]
    phrases += [p for row in _REASONING_SHAPE.values() for p in row] + list(_REASONING_COLOR.values())
    phrases += [*COLORS, *SHAPES, *SIZES, *(f"{shape}s" for shape in SHAPES)]
    phrases += [
        "matte shiny bigger smaller larger left middle right all thing things block an the a empty floor",
        "on top of in the mirror in front of and , don't change image",
    ]
    return sorted({word for phrase in phrases for word in phrase.split()})
