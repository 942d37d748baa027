"""Edits kept in tables, as the hub offers InstructPix2Pix and MagicBrush: `.parquet`, or the `.arrow` made from it.

The package pyarrow reads them, which nothing else needs. A parquet file gives up a whole group of rows for one of them;
an arrow file, as `datasets` writes with `save_to_disk`, is mapped, and is much the faster for training.
"""

from bisect import bisect_right
from collections.abc import Sequence
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ...editors import InputError, MissingExtraError, Sample
from .layout import laid_out
from .pictures import decode_picture, on_frame_of


def find_tables(root: Path) -> tuple[Path, ...]:
    """The tables of a training set in a folder, none where there are none.

    Args:
        root: the folder; those of the training part come before any others.
    """
    for pattern in ("train/*.arrow", "*.arrow", "data/train*.parquet", "train*.parquet", "*.parquet"):
        found = tuple(sorted(root.glob(pattern)))
        if found:
            return found
    return ()


class TablePairs:
    """Pairs in the rows of tables; files are opened for each row, so that workers share nothing."""

    def __init__(self, files: Sequence[Path], *, before: str, after: str, text: str) -> None:
        """Count the rows.

        Args:
            files: `.parquet` or `.arrow`.
            before: column of the pictures.
            after: column of the edited pictures.
            text: column of the instructions.

        Raises:
            MissingExtraError: if pyarrow is not installed.
            InputError: if a file is damaged or has other columns.
        """
        self._files, self._columns = tuple(files), (before, after, text)
        counts = [_count_rows(file, self._columns) for file in files]
        self._before = [0, *accumulate(counts)]

    def __len__(self) -> int:
        """How many rows there are."""
        return self._before[-1]

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One row.

        Raises:
            InputError: if it is damaged, or its pictures show different frames.
        """
        which = bisect_right(self._before, index) - 1
        row, path = index - self._before[which], self._files[which]
        before, after, text = self._columns
        names = [f"row {row} of {path}, {column}" for column in (before, after)]
        with laid_out(path, f"pictures in {before} and {after}, a text in {text}"):
            record = _read_row(path, row, self._columns)
            image, target = (
                decode_picture(record[column]["bytes"], name)
                for column, name in zip((before, after), names, strict=True)
            )
            said = " ".join(record[text].split())
        return Sample(text=said, image=image, target=on_frame_of(image, target, before=before, after=names[1]))


def _pyarrow(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        purpose = "reading .parquet and .arrow files"
        raise MissingExtraError("pyarrow", purpose=purpose, install="pip install pyarrow") from error


def _open_arrow(path: Path) -> Any:
    """All of a mapped file; nothing of it is read yet."""
    arrow = _pyarrow("pyarrow")
    return arrow.ipc.open_stream(arrow.memory_map(str(path))).read_all()


def _count_rows(path: Path, columns: Sequence[str]) -> int:
    parquet = _pyarrow("pyarrow.parquet")
    with laid_out(path, f"a table with the columns {', '.join(columns)}"):
        try:
            if path.suffix == ".arrow":
                table = _open_arrow(path)
                names, count = table.column_names, table.num_rows
            else:
                metadata = parquet.read_metadata(str(path))
                names, count = metadata.schema.to_arrow_schema().names, metadata.num_rows
        except OSError as error:
            raise InputError(f"cannot read {path} ({error}): download it again") from error
        lacking = [column for column in columns if column not in names]
        if lacking:
            raise KeyError(lacking[0])
    return count


def _read_row(path: Path, row: int, columns: Sequence[str]) -> dict[str, Any]:
    if path.suffix == ".arrow":
        return _open_arrow(path).select(list(columns)).slice(row, 1).to_pylist()[0]
    with _pyarrow("pyarrow.parquet").ParquetFile(str(path)) as file:
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        ends = list(accumulate(sizes))
        group = bisect_right(ends, row)
        table = file.read_row_group(group, columns=list(columns))
        return table.slice(row - (ends[group] - sizes[group]), 1).to_pylist()[0]
