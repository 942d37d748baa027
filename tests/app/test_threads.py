"""The number of threads: what the user said, or else the cores that are free."""

import os
from collections.abc import Iterator

import pytest
import torch

from maskedit.app.threads import MOST, VARIABLE, choose_threads, free_cores, thread_environment


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "load", "expected"), [(4, 0.2, 4), (4, 2.6, 1), (4, 40.0, 1), (64, 0.0, MOST)])
def test_busy_cores_are_left_to_others(cores: int, load: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert free_cores() == expected
    choose_threads()
    assert torch.get_num_threads() == expected
    assert thread_environment() == {VARIABLE: str(expected)}


def test_what_the_user_said_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(3)
    monkeypatch.setenv(VARIABLE, "7")
    choose_threads()
    assert torch.get_num_threads() == 3
    assert thread_environment() == {}
