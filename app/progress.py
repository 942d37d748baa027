"""What the user sees while something runs: bars with an estimate of the time that is left, and lines about it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Step = Callable[[int], None]
"""Tells how many more are done."""


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    # A single step may take minutes, so the estimate looks back over an hour instead of the usual 30 seconds.
    console = Console(stderr=True)
    # In a file or a pipe a bar would be a stray line.
    hidden = not console.is_terminal
    return Progress(*columns, console=console, speed_estimate_period=3600, transient=True, disable=hidden)


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Step]:
    """A bar on stderr; what is printed meanwhile appears above it."""
    with _bar() as progress:
        task = progress.add_task(label, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """A sign of life on stderr for work whose length nobody knows."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(label):
        yield


def warn(text: str) -> None:
    """One line of warning on stderr."""
    print(f"maskedit: warning: {text}", file=sys.stderr)


def format_seconds(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@runtime_checkable
class ShowPart(Protocol):
    """Tells the part of some work, how many of it are done, how many there are, and what else is worth a word."""

    def __call__(self, label: str, done: int, total: int, detail: str = "") -> None:
        """Show it."""
        ...


@contextmanager
def labelled_bar() -> Iterator[ShowPart]:
    """A bar for work that comes in named parts."""
    with _bar() as progress:
        task: TaskID | None = None
        current = ""

        def show(label: str, done: int, total: int, detail: str = "") -> None:
            nonlocal task, current
            if task is None or label != current:
                if task is not None:
                    progress.remove_task(task)
                task, current = progress.add_task(label, total=total), label
            said = f"{label}, {detail}" if detail else label
            progress.update(task, completed=done, total=total, description=said)

        yield show
