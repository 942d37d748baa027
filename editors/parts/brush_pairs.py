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
_LOOKED_AT = 48
"""Longest side in pixels of the copies that are compared."""
_MOST_SHIFT = 0.2
"""Farthest shift that is looked for, as a share of the shorter side."""
_HARDLY_CHANGED = 0.003
"""Lack of correlation below which nothing tells an edit from a move."""
_NEARLY_EQUAL = 0.9
"""Correlation at which a moved picture shows what the other one does."""
_SHARE_LEFT = 0.3
"""Of what a picture that lies still lacks of it, the most that a moved one may lack."""
_LEVEL = 1 / 255
"""Mean difference below which a pair shows no edit: one level of 8 bits."""
_ANY_EDIT = 16 / 255
"""Difference of a single number that is an edit all the same: a small one hardly moves the mean."""
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

    def require_change(self) -> tuple[str, ...]:
        """Names of the pairs that show no edit, because their two pictures are equal or as good as equal.

        Raises:
            InputError: if these are all of them.
        """
        differences = (self.after - self.before).abs().flatten(1)
        equal = (differences.mean(1) < _LEVEL) & (differences.amax(1) < _ANY_EDIT)
        names = tuple(name for name, same in zip(self.names, equal.tolist(), strict=True) if same)
        if len(names) == len(self.names):
            raise InputError(
                f"no pair shows an edit, the pictures before and after of pair {names[0]!r} are the same: give "
                "pictures after an edit"
            )
        return names


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


def read_pairs(files: Sequence[PairFiles], *, size: int, multiple: int, aligned: bool = True) -> BrushPairs:
    """Read pairs and bring them to the size of a model; neither cropped nor mirrored, which would tell another edit.

    Args:
        files: which.
        size: longest side in pixels.
        multiple: sides become multiples of it, by repeating the right and bottom edges.
        aligned: refuse pairs of which one picture is clearly the other one shifted or mirrored.

    Raises:
        InputError: if the sizes within a pair differ, those of two pairs in proportion, or the frames of a pair.
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
        if aligned:
            _require_one_frame(pair.name, *sides)
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


def find_misalignment(
    before: Float[Tensor, "1 3 height width"], after: Float[Tensor, "1 3 height width"]
) -> tuple[int, int, bool] | None:
    """How one picture of a pair would have to be moved to show what the other does; None where it need not be.

    Small gray copies are compared by the correlation of what they share. A pair counts as misaligned only where a move
    makes them nearly equal and lying still does not, so that no edit of the picture itself is taken for one.

    Args:
        before: one picture.
        after: the other, of the same size.

    Returns:
        Pixels right and down, about, and whether it is mirrored from left to right.
    """
    height, width = before.shape[-2:]
    target = fit_size(height, width, longest=_LOOKED_AT)
    first, second = (resize_image(side, *target).mean(1)[0] for side in (before, after))
    still = _correlation(first, second)
    if 1 - still < _HARDLY_CHANGED:
        return None
    most = max(1, round(_MOST_SHIFT * min(target)))
    best, move = still, (0, 0, False)
    for mirrored in (False, True):
        turned = second.flip(-1) if mirrored else second
        for down in range(-most, most + 1):
            for right in range(-most, most + 1):
                found = _correlation(_shared(first, down, right), _shared(turned, -down, -right))
                if found > best:
                    best, move = found, (right, down, mirrored)
    if best < _NEARLY_EQUAL or 1 - best > _SHARE_LEFT * (1 - still):
        return None
    scale = width / target[1]
    return round(-move[0] * scale), round(-move[1] * scale), move[2]


def _shared(picture: Float[Tensor, "height width"], down: int, right: int) -> Float[Tensor, "part_height part_width"]:
    """What is left of a picture when the first rows and columns are cut, or the last ones for negative numbers."""
    height, width = picture.shape
    return picture[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]


def _correlation(one: Float[Tensor, "height width"], other: Float[Tensor, "height width"]) -> float:
    """Of gray values; 0 where one of them has no detail."""
    first, second = (each - each.mean() for each in (one, other))
    lengths = first.norm() * second.norm()
    return 0.0 if lengths < 1e-6 * first.numel() else float((first * second).sum() / lengths)


def _require_one_frame(
    name: str, before: Float[Tensor, "1 3 height width"], after: Float[Tensor, "1 3 height width"]
) -> None:
    move = find_misalignment(before, after)
    if move is None:
        return
    right, down, mirrored = move
    how = "mirrored" if mirrored else f"about {right} pixels to the right and {down} down"
    raise InputError(
        f"pair {name!r} is misaligned, the picture after shows the one before {how}: crop both to the same frame, or "
        "pass --no-aligned where that is the edit"
    )


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        if folder.exists():
            raise InputError(f"expected a folder of pictures, got the file {folder}: name the folder it lies in")
        raise InputError(f"expected a folder of pictures, found none at {folder}: correct the path")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())


def _natural(name: str) -> list[tuple[int, str]]:
    """Order in which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name)]
