"""Remembers what was computed, so that equal pictures, texts and paths are worked on once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")


class Remembered(Generic[T]):
    """The results used last."""

    def __init__(self, entries: int) -> None:
        """Hold at most this many results; the one unused for longest goes first."""
        self._entries = entries
        self._results: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result for a key, computed if it is not known."""
        if key not in self._results:
            self._results[key] = compute()
            while len(self._results) > self._entries:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key]


def picture_key(picture: Float[Tensor, "3 height width"]) -> Hashable:
    """What tells a picture from every other one, whatever tensor holds it."""
    # The shape counts: two black pictures, one upright and one lying, have the same bytes.
    values = picture.detach().float().cpu().contiguous().numpy()
    return tuple(picture.shape), hashlib.sha1(values.tobytes(), usedforsecurity=False).hexdigest()
