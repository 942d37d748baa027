"""Remembers what was computed for a picture, by the picture's content, so that equal pictures are worked on once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")


class ContentCache(Generic[T]):
    """The results for the pictures used last."""

    def __init__(self, entries: int) -> None:
        """Hold at most this many results; the one unused for longest goes first."""
        self._entries = entries
        self._results: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, picture: Float[Tensor, "3 height width"], compute: Callable[[], T], *, key: Hashable = None) -> T:
        """The result for a picture, computed if it is not known; `key` = what else it depends on."""
        # The shape counts: two black pictures, one upright and one lying, have the same bytes.
        values = picture.detach().float().cpu().contiguous().numpy().tobytes()
        entry = (key, tuple(picture.shape), hashlib.sha1(values, usedforsecurity=False).hexdigest())
        if entry not in self._results:
            self._results[entry] = compute()
            while len(self._results) > self._entries:
                self._results.popitem(last=False)
        self._results.move_to_end(entry)
        return self._results[entry]
