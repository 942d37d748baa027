"""What is remembered for a picture depends on its content and shape, and on nothing else."""

import pytest
import torch

from maskedit.editors.parts.content_cache import ContentCache


def test_equal_pictures_are_worked_on_once() -> None:
    cache: ContentCache[list[int]] = ContentCache(4)
    picture = torch.rand(3, 4, 6)
    first = cache.get(picture, lambda: [1])
    assert cache.get(picture.clone(), lambda: [2]) is first
    assert cache.get(picture + 0.01, lambda: [3]) == [3]


def test_shape_counts() -> None:
    cache: ContentCache[str] = ContentCache(4)
    upright, lying = torch.zeros(3, 6, 4), torch.zeros(3, 4, 6)
    assert [cache.get(upright, lambda: "upright"), cache.get(lying, lambda: "lying")] == ["upright", "lying"]


def test_the_one_unused_for_longest_goes_first() -> None:
    cache: ContentCache[int] = ContentCache(2)
    a, b, c = (torch.full((3, 2, 2), value) for value in (0.1, 0.2, 0.3))
    cache.get(a, lambda: 1)
    cache.get(b, lambda: 2)
    cache.get(a, lambda: 0)
    cache.get(c, lambda: 3)
    assert (cache.get(a, lambda: 10), cache.get(b, lambda: 20)) == (1, 20)


def test_a_computation_that_fails_leaves_nothing() -> None:
    cache: ContentCache[float] = ContentCache(2)
    picture = torch.zeros(3, 2, 2)
    with pytest.raises(ZeroDivisionError):
        cache.get(picture, lambda: 1 / 0)
    assert cache.get(picture, lambda: 0.5) == 0.5
