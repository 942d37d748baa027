"""The limit that a shortage of memory lowers, and warnings that have nothing to do with it."""

import warnings

import pytest
import torch

from maskedit.app.memory import BatchLimit
from maskedit.editors import in_chunks


def hold(most: int, rows: slice) -> int:
    count = rows.stop - rows.start
    if count > most:
        raise torch.OutOfMemoryError
    return count


def test_what_memory_holds_is_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    limit = BatchLimit(8)
    with limit.watch():
        assert in_chunks(lambda rows: hold(2, rows), 8) == [2, 2, 2, 2]
    assert limit.count == 2
    assert capsys.readouterr().err == (
        "maskedit: warning: memory does not hold 8 pictures at once: going on with --chunk 2\n"
    )
    with limit.watch():
        in_chunks(lambda rows: hold(2, rows), limit.count)
    assert limit.count == 2
    assert capsys.readouterr().err == ""


def test_an_error_leaves_the_limit() -> None:
    limit = BatchLimit(4)
    with pytest.raises(torch.OutOfMemoryError), limit.watch():
        in_chunks(lambda rows: hold(0, rows), 1)
    assert limit.count == 4


def test_other_warnings_pass() -> None:
    limit = BatchLimit(4)
    with pytest.warns(UserWarning, match="something else"), limit.watch():
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert limit.count == 4
