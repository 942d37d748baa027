"""Equal pictures are worked on once, and the result unused for longest is forgotten first."""

import pytest
import torch

from maskedit.editors.core.caching import Remembered, picture_key


def test_equal_pictures_have_one_key() -> None:
    picture = torch.rand(3, 4, 6)
    assert picture_key(picture) == picture_key(picture.clone())
    assert picture_key(picture) == picture_key(picture.repeat(1, 1, 2)[..., :6])
    assert picture_key(picture) != picture_key(picture + 0.01)


def test_shape_counts() -> None:
    assert picture_key(torch.zeros(3, 6, 4)) != picture_key(torch.zeros(3, 4, 6))


def test_a_key_is_worked_on_once() -> None:
    known: Remembered[list[int]] = Remembered(4)
    first = known.get("a", lambda: [1])
    assert known.get("a", lambda: [2]) is first
    assert known.get("b", lambda: [3]) == [3]


def test_the_one_unused_for_longest_goes_first() -> None:
    known: Remembered[int] = Remembered(2)
    for key, value in (("a", 1), ("b", 2), ("a", 0), ("c", 3)):
        known.get(key, lambda value=value: value)
    assert (known.get("a", lambda: 10), known.get("b", lambda: 20)) == (1, 20)


def test_a_computation_that_fails_leaves_nothing() -> None:
    known: Remembered[float] = Remembered(2)
    with pytest.raises(ZeroDivisionError):
        known.get("a", lambda: 1 / 0)
    assert known.get("a", lambda: 0.5) == 0.5
