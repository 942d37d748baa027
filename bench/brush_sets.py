"""Edits as InstructBrush's table takes them: pairs to learn from, pairs held out, and words for the same edit.

They come from the blocks world or from a folder in the layout of TOP-Bench (InstructBrush, arXiv 2403.18660, section
5), after Visii: `EDIT/train/0_0.png` is before and `EDIT/train/0_1.png` after, likewise in `EDIT/test`, and
`EDIT/instruction.txt` holds the words.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..editors import BrushPairs, InputError, find_pairs, read_pairs, save_image, write_atomic
from .blocks import Split
from .brush_edits import EDITS, BrushEdit, Scope, render_edit

TOP_BENCH_LOCAL = frozenset(
    ("boy2girl", "glasses", "4dboy", "apple", "cake", "cloud kitty", "dog2cat", "juice", "read books", "smile")
) | {"traffic lights"}
"""Edits of TOP-Bench that change a part of the picture; which these are is told by their names, not by the paper, whose
11 local and 14 global edits this gives."""
_LAYOUT = "expected ROOT/EDIT/train and test with 0_0.png (before) and 0_1.png (after), ..., and instruction.txt"


@dataclass(frozen=True, kw_only=True)
class BrushSet:
    """One edit."""

    name: str
    scope: Scope
    instruction: str
    """What a person would say."""
    train: BrushPairs
    test: BrushPairs
    content: str = ""
    """What the first picture after the edit holds; empty where nobody says."""

    def shots(self, count: int) -> BrushPairs:
        """The first pairs to learn from.

        Raises:
            InputError: if there are fewer.
        """
        if count > len(self.train.names):
            had = len(self.train.names)
            raise InputError(f"{self.name} has {had} pairs to learn from, got {count} shots: ask for fewer")
        return self.train.part(slice(0, count))

    def mark(self, shots: int) -> str:
        """What tells its pictures from others."""
        digest = hashlib.sha1(usedforsecurity=False)
        for pairs in (self.shots(shots), self.test):
            for side in (pairs.before, pairs.after):
                digest.update(f"{tuple(side.shape)}".encode() + side.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write it in the layout of TOP-Bench, so that it can be looked at and learned from by hand."""
        for part, pairs in (("train", self.train), ("test", self.test)):
            for number, sides in enumerate(zip(pairs.before.split(1), pairs.after.split(1), strict=True)):
                for side, image in enumerate(sides):
                    save_image(image, folder / self.name / part / f"{number}_{side}.png")
        text = f"{self.instruction}\n".encode()
        place = folder / self.name / "instruction.txt"
        write_atomic(place, lambda file: file.write(text), hint="choose another --out", error=InputError)


def blocks_set(edit: BrushEdit, *, train: int, test: int, split: Split, height: int) -> BrushSet:
    """An edit of the blocks world.

    Args:
        edit: which.
        train: pairs to learn from; those held out come after them.
        test: pairs held out.
        split: which range of scene seeds to draw from.
        height: side of the square pictures in pixels.

    Raises:
        InputError: if scenes do not offer so many.
    """
    made = render_edit(edit, split, train + test, height=height)
    names = tuple(str(number) for number in range(train + test))
    every = BrushPairs(names=names, before=made.before, after=made.after)
    return BrushSet(
        name=edit.name,
        scope=edit.scope,
        instruction=edit.instruction,
        train=every.part(slice(0, train)),
        test=every.part(slice(train, train + test)),
        content=made.captions[0],
    )


def choose_edits(names: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """The names that were asked for, or all.

    Raises:
        InputError: if one of them is not there.
    """
    for name in names:
        if name not in available:
            raise InputError(f"expected --edits among {', '.join(available)}, got {name!r}: correct the name")
    return tuple(names or available)


def blocks_sets(names: Sequence[str], *, train: int, test: int, split: Split, height: int) -> tuple[BrushSet, ...]:
    """Edits of the blocks world by name; none = all."""
    chosen = choose_edits(names, tuple(EDITS))
    return tuple(blocks_set(EDITS[name], train=train, test=test, split=split, height=height) for name in chosen)


def read_top_bench(root: Path, names: Sequence[str] = (), *, size: int, multiple: int) -> tuple[BrushSet, ...]:
    """Edits of a folder in the layout of TOP-Bench.

    Args:
        root: the folder.
        names: which edits; none = all.
        size: longest side of the pictures in pixels.
        multiple: sides become multiples of it.

    Raises:
        InputError: if the layout is another one, or an edit is not there.
    """
    if not root.is_dir():
        raise InputError(f"expected a folder of edits, found none at {root}: {_LAYOUT}")
    available = sorted(path.name for path in root.iterdir() if (path / "train").is_dir())
    if not available:
        raise InputError(f"no edits in {root}: {_LAYOUT}")
    return tuple(_read_edit(root / name, size, multiple) for name in choose_edits(names, available))


def _read_edit(folder: Path, size: int, multiple: int) -> BrushSet:
    place = folder / "instruction.txt"
    if not (folder / "test").is_dir() or not place.is_file():
        raise InputError(f"{folder} has no {'test' if place.is_file() else 'instruction.txt'}: {_LAYOUT}")
    try:
        instruction = " ".join(place.read_text("utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {place} ({error}): make it a line of text") from error
    train, test = (read_pairs(find_pairs(folder / part), size=size, multiple=multiple) for part in ("train", "test"))
    name = folder.name.replace("_", " ").casefold()
    return BrushSet(
        name=folder.name,
        scope="local" if name in TOP_BENCH_LOCAL or folder.name in _LOCAL_BLOCKS else "global",
        instruction=instruction,
        train=train,
        test=test,
    )


_LOCAL_BLOCKS = frozenset(edit.name for edit in EDITS.values() if edit.scope == "local")
