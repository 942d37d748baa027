"""Durations, warnings, and bars that stay away from files and pipes."""

import sys

import pytest

from maskedit.app.progress import format_seconds, labelled_bar, progress_bar, waiting, warn


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.34, "0.3 s"), (42.4, "42 s"), (119.0, "2 min"), (3540.0, "59 min"), (7260.0, "2 h 1 min")],
)
def test_durations_are_short(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


def test_warnings_are_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    warn("the disk is nearly full")
    assert capsys.readouterr() == ("", "maskedit: warning: the disk is nearly full\n")


def test_bars_leave_no_trace_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("loading"), progress_bar("editing", 2) as step:
        step(1)
        sys.stdout.write("a result\n")
        step(1)
    with labelled_bar() as show:
        show("first", 1, 2)
        show("first", 2, 2)
        show("second", 1, 1)
    assert capsys.readouterr() == ("a result\n", "")


def test_bars_show_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with progress_bar("editing", 2) as step:
        step(2)
    with labelled_bar() as show:
        show("scenes", 1, 4)
    err = capsys.readouterr().err
    assert "editing" in err
    assert "1/4" in err
