"""Captions of Conceptual 12M, for the first stage: texts alone, without their pictures.

Read are the published `cc12m.tsv` (address, tab, caption; no heading), WebDataset shards (`*.tar` with a `KEY.txt` for
each picture) and the same unpacked. Twelve million captions are told by where they lie, 8 or 16 bytes each.
"""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ...editors import InputError, Sample, SampleSource
from .layout import read_text
from .shards import find_captions

_CHUNK = 1 << 24
_LAYOUT = "expected cc12m.tsv (address, tab, caption), or a folder with it, with shards *.tar or with *.txt"


def open_captions(root: Path) -> SampleSource:
    """Captions in a file or folder.

    Args:
        root: the `.tsv`, or a folder with one, with WebDataset shards, or with `.txt` files at any depth.

    Raises:
        InputError: if there is nothing of the kind, or a shard is damaged.
    """
    if root.is_file():
        return CaptionLines((root,))
    if not root.is_dir():
        raise InputError(f"no captions at {root}: {_LAYOUT}")
    for pattern, reader in (("*.tsv", CaptionLines), ("*.tar", CaptionShards), ("**/*.txt", CaptionFiles)):
        found = tuple(sorted(root.glob(pattern)))
        if found:
            return reader(found)
    raise InputError(f"no captions in {root}: {_LAYOUT}")


class CaptionLines:
    """Captions as the last column of lines."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Find where the lines of some files start.

        Raises:
            InputError: if one cannot be read.
        """
        self._files = tuple(files)
        self._starts = [_line_starts(file) for file in files]
        # What lies before each file, and all lines at the end.
        self._before = np.concatenate([[0], np.cumsum([len(starts) - 1 for starts in self._starts])])

    def __len__(self) -> int:
        """How many lines there are."""
        return int(self._before[-1])

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One caption.

        Raises:
            InputError: if its line has no tab or nothing behind it.
        """
        which = bisect_right(self._before, index) - 1
        line = index - int(self._before[which])
        start, end = (int(each) for each in self._starts[which][line : line + 2])
        with self._files[which].open("rb") as file:
            file.seek(start)
            text = file.read(end - start).decode("utf-8", errors="replace")
        caption = " ".join(text.rpartition("\t")[2].split())
        if "\t" not in text or not caption:
            got = f"got {text.strip()[:60]!r}"
            raise InputError(f"{self._files[which]}, line {line + 1}: expected an address, a tab and a caption, {got}")
        return Sample(text=caption)


class CaptionShards:
    """Captions as `.txt` members of WebDataset shards."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Find the captions in some shards; pictures are skipped, not read, and what was found is kept.

        Raises:
            InputError: if a shard is damaged or holds no caption.
        """
        self._files = tuple(files)
        found = [find_captions(file) for file in files]
        self._places = np.concatenate(found)
        self._before = np.concatenate([[0], np.cumsum([len(each) for each in found])])

    def __len__(self) -> int:
        """How many captions there are."""
        return len(self._places)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One caption.

        Raises:
            InputError: if it is empty.
        """
        path = self._files[bisect_right(self._before, index) - 1]
        start, size = (int(each) for each in self._places[index])
        with path.open("rb") as file:
            file.seek(start)
            text = file.read(size).decode("utf-8", errors="replace")
        return _caption(text, f"byte {start} of {path}")


class CaptionFiles:
    """Captions as text files of their own."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read from some files."""
        self._files = tuple(files)

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._files)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One caption.

        Raises:
            InputError: if the file is gone or empty.
        """
        return _caption(read_text(self._files[index]), str(self._files[index]))


def _caption(text: str, where: str) -> Sample:
    caption = " ".join(text.split())
    if not caption:
        raise InputError(f"expected a caption, found none at {where}")
    return Sample(text=caption)


def _line_starts(path: Path) -> Int64[np.ndarray, " lines_and_end"]:
    """Where each line starts, and where the last one ends."""
    breaks: list[np.ndarray] = []
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                breaks.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + size + 1)
                size += len(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}): download it again") from error
    if not size:
        raise InputError(f"{path} is empty: {_LAYOUT}")
    starts = np.concatenate([np.zeros(1, np.int64), *breaks])
    return starts if starts[-1] == size else np.append(starts, size)
