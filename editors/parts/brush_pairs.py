"""Pairs of pictures before and after the same edit, read from folders; what is no pair is refused by its name.

Two layouts are read. That of TOP-Bench (InstructBrush, arXiv 2403.18660, section 5), after Visii: `0_0.png` is before
and `0_1.png` after, in a folder `train` if there is one. And two folders whose pictures have the same names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import InputError
from ..core.images import fit_size, load_image, pad_to_multiple, resize_image
from ..core.types import Image

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_LAYOUT = "expected pairs 0_0.png (before) and 0_1.png (after), 1_0.png and 1_1.png, ..."


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """Where the two pictures of a pair are."""

    name: str
    before: Path
    after: Path


@dataclass(frozen=True, kw_only=True)
class BrushPairs:
    """Pairs at the size they are learned from."""

    names: tuple[str, ...]
    before: Image
    after: Float[Tensor, "batch2 3 height2 width2"]

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("expected at least one pair, got none: name a folder with pictures before and after")
        if self.before.shape != self.after.shape or len(self.names) != len(self.before):
            raise InputError(
                f"expected as many pictures after as before, of one size, got {tuple(self.after.shape)} after and "
                f"{tuple(self.before.shape)} before"
            )

    def part(self, rows: slice) -> "BrushPairs":
        """Some of the pairs."""
        return BrushPairs(names=self.names[rows], before=self.before[rows], after=self.after[rows])


def find_pairs(folder: Path) -> tuple[PairFiles, ...]:
    """Pairs of a folder in the layout of TOP-Bench: those of its `train`, or its own.

    Raises:
        InputError: if there are none, or a picture lacks its counterpart.
    """
    place = folder / "train" if (folder / "train").is_dir() else folder
    sides: dict[str, dict[str, Path]] = {}
    for path in _pictures(place):
        named = re.fullmatch(r"(.+)_([01])", path.stem)
        if named is None:
            raise InputError(f"{path} is of no pair: {_LAYOUT}, or two folders with --before and --after")
        sides.setdefault(named[1], {})[named[2]] = path
    for name, found in sides.items():
        if len(found) != 2:
            raise InputError(
                f"pair {name!r} in {place} has no picture {'after' if '0' in found else 'before'}: {_LAYOUT}"
            )
    if not sides:
        raise InputError(f"no pairs in {place}: {_LAYOUT}, or two folders with --before and --after")
    return tuple(
        PairFiles(name=name, before=found["0"], after=found["1"])
        for name, found in sorted(sides.items(), key=lambda each: _natural(each[0]))
    )


def match_pairs(before: Path, after: Path) -> tuple[PairFiles, ...]:
    """Pairs of two folders whose pictures have the same names, whatever their endings.

    Raises:
        InputError: if there are none, or a picture lacks its counterpart.
    """
    first, second = ({path.stem: path for path in _pictures(folder)} for folder in (before, after))
    alone = sorted(first.keys() ^ second.keys(), key=_natural)
    if alone:
        lacking = after if alone[0] in first else before
        raise InputError(f"pair {alone[0]!r} has no picture in {lacking}: expected two folders with equal names")
    if not first:
        raise InputError(f"no pictures in {before}: expected two folders with equal names")
    return tuple(PairFiles(name=n, before=first[n], after=second[n]) for n in sorted(first, key=_natural))


def read_pairs(files: Sequence[PairFiles], *, size: int, multiple: int) -> BrushPairs:
    """Read pairs and bring them to the size of a model; neither cropped nor mirrored, which would tell another edit.

    Args:
        files: which.
        size: longest side in pixels.
        multiple: sides become multiples of it, by repeating the right and bottom edges.

    Raises:
        InputError: if the sizes within a pair differ, or those of two pairs in proportion.
    """
    before: list[Image] = []
    after: list[Image] = []
    for pair in files:
        sides = load_image(pair.before), load_image(pair.after)
        (height, width), (other_height, other_width) = (side.shape[-2:] for side in sides)
        if (height, width) != (other_height, other_width):
            raise InputError(
                f"pair {pair.name!r} is unequal, {width}x{height} pixels before and {other_width}x{other_height} "
                "after: give both the same size and frame"
            )
        target = fit_size(height, width, longest=size)
        ready = [pad_to_multiple(resize_image(side, *target), multiple) for side in sides]
        if before and ready[0].shape != before[0].shape:
            raise InputError(
                f"pair {pair.name!r} of {width}x{height} pixels has another shape than {files[0].name!r}: crop all "
                "pairs to one"
            )
        before.append(ready[0])
        after.append(ready[1])
    if not files:
        raise InputError("expected at least one pair, got none: name a folder with pictures before and after")
    return BrushPairs(names=tuple(pair.name for pair in files), before=torch.cat(before), after=torch.cat(after))


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"expected a folder of pictures, found none at {folder}")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())


def _natural(name: str) -> list[tuple[int, str]]:
    """Order in which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name)]
