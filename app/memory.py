"""Remembers how many pictures fit into memory at once, so that a command finds it out only once."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from .progress import warn

_SHORTAGE = r"out of memory: going on with (\d+) at a time"
"""How the editors say that a batch did not fit."""


class BatchLimit:
    """How many pictures to edit at once: what was asked for, until memory runs out."""

    def __init__(self, count: int) -> None:
        self.count = count

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Lower the limit to what an edit inside this block fell back to, and say so in one line."""
        was = self.count
        caught: list[warnings.WarningMessage] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.filterwarnings("always", message=_SHORTAGE, category=RuntimeWarning)
                yield
        finally:
            for each in caught:
                shortage = re.match(_SHORTAGE, str(each.message))
                if shortage is None:
                    warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
                else:
                    self.count = min(self.count, int(shortage[1]))
            if self.count < was:
                warn(f"memory does not hold {was} pictures at once: going on with --chunk {self.count}")
