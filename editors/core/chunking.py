"""Running a batch in parts that fit into memory."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def in_chunks(function: Callable[[slice], T], total: int, *, chunk: int | None = None) -> list[T]:
    """Call a function on consecutive slices of a batch.

    An out-of-memory error halves the chunk and goes on from where it stopped, with a warning.

    Args:
        function: receives a slice of the batch.
        total: length of the batch.
        chunk: longest slice; None = all at once.

    Raises:
        torch.OutOfMemoryError: if even one element does not fit.
    """
    size = total if chunk is None else max(1, min(chunk, total))
    results: list[T] = []
    start = 0
    while start < total:
        try:
            results.append(function(slice(start, min(start + size, total))))
        except torch.OutOfMemoryError:
            if min(size, total - start) <= 1:
                raise
        else:
            start += size
            continue
        # Outside the handler, because the caught error would keep the failed attempt's tensors alive.
        size = (min(size, total - start) + 1) // 2
        warnings.warn(
            f"out of memory: going on with {size} at a time. Set a smaller chunk to avoid the retry.",
            RuntimeWarning,
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return results
