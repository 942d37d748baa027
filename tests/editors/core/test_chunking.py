"""Batches run in parts; running out of memory makes the parts smaller and loses nothing."""

import warnings

import pytest
import torch

from maskedit.editors import in_chunks


def limited(most: int, seen: list[int]):
    """A function that fits `most` elements at once, and notes the sizes it was asked for."""

    def run(rows: slice) -> list[int]:
        size = rows.stop - rows.start
        seen.append(size)
        if size > most:
            raise torch.OutOfMemoryError(f"{size} do not fit")
        return list(range(rows.start, rows.stop))

    return run


def joined(parts: list[list[int]]) -> list[int]:
    return [value for part in parts for value in part]


@pytest.mark.parametrize(("total", "chunk", "sizes"), [(5, None, [5]), (5, 2, [2, 2, 1]), (3, 9, [3]), (0, None, [])])
def test_slices_cover_the_batch_in_order(total: int, chunk: int | None, sizes: list[int]) -> None:
    seen: list[int] = []
    assert joined(in_chunks(limited(99, seen), total, chunk=chunk)) == list(range(total))
    assert seen == sizes


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_out_of_memory_halves_and_loses_nothing(most: int) -> None:
    seen: list[int] = []
    with pytest.warns(RuntimeWarning, match="out of memory: going on with"):
        parts = in_chunks(limited(most, seen), 11)
    assert joined(parts) == list(range(11))
    assert max(len(part) for part in parts) <= most


def test_work_that_was_done_is_not_done_again() -> None:
    calls: list[int] = []

    def run(rows: slice) -> list[int]:
        if rows.start >= 4 and rows.stop - rows.start > 1:
            raise torch.OutOfMemoryError("the second half is larger")
        calls.extend(range(rows.start, rows.stop))
        return []

    with pytest.warns(RuntimeWarning):
        in_chunks(run, 8, chunk=4)
    assert calls == list(range(8))


def test_a_single_element_that_does_not_fit_is_an_error() -> None:
    with pytest.warns(RuntimeWarning), pytest.raises(torch.OutOfMemoryError):
        in_chunks(limited(0, []), 4)


def test_a_short_tail_that_does_not_fit_is_an_error_at_once() -> None:
    def run(rows: slice) -> None:
        if rows.start == 4:
            raise torch.OutOfMemoryError("never fits")

    # A warning would be an error here.
    with pytest.raises(torch.OutOfMemoryError):
        in_chunks(run, 5, chunk=4)


def test_other_errors_pass_through() -> None:
    def run(rows: slice) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        in_chunks(run, 4)


def test_the_warning_is_one_a_user_sees() -> None:
    """Python hides ResourceWarning and DeprecationWarning unless asked for them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", ResourceWarning)
        in_chunks(limited(1, []), 2)
    assert len(caught) == 1
