"""What is measured while a run of `ns-train maskedit` goes on: the editor's own time, waiting, memory.

This module stands apart from those that import nerfstudio.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..editors import Editor, EditRequest, EditResult, EditTrace, Mask
from .blocks import MultiviewTruth

_WAITING = 2.0
"""A training step that takes more than this many times the median has waited for an edit."""


class TimedEditor:
    """An editor and the time it takes.

    Args:
        editor: who does the work.
        device: where.
    """

    def __init__(self, editor: Editor, device: torch.device | str) -> None:
        self.editor, self.device = editor, torch.device(device)
        self.edits: list[tuple[int, float]] = []
        """Views and seconds of each batch."""
        self.searches: list[float] = []
        """Seconds of each search for masks."""

    @property
    def tools(self) -> Any:
        """The editor's, for another one that is made like it."""
        return getattr(self.editor, "tools", None)

    def plan(self, request: EditRequest) -> EditRequest:
        """As the editor plans."""
        return self.editor.plan(request)

    def edit(self, request: EditRequest) -> EditResult:
        """As the editor edits."""
        start = self._now()
        result = self.editor.edit(request)
        self.edits.append((len(request.image), self._now() - start))
        return result

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """As the editor finds them."""
        start = self._now()
        try:
            return self.editor.find_masks(request)
        finally:
            self.searches.append(self._now() - start)

    def _now(self) -> float:
        wait_for(self.device)
        return time.perf_counter()

    @property
    def seconds_per_view(self) -> float | None:
        """Of edits and searches but the first of each, which also warm up; None = there were no others."""
        later = self.edits[1:]
        views = sum(count for count, _ in later)
        return (sum(spent for _, spent in later) + sum(self.searches[1:])) / views if views else None


class TrueEditor:
    """Gives each photo its truly edited twin.

    Args:
        truth: of the scene.
    """

    def __init__(self, truth: MultiviewTruth) -> None:
        self.truth = truth

    def plan(self, request: EditRequest) -> EditRequest:
        """There is nothing to decide."""
        return request

    def edit(self, request: EditRequest) -> EditResult:
        """The truth, wherever the picture is."""
        views = self._views(request)
        mask = self.truth.changed[views].float()
        trace = EditTrace(editor="truth", mask_area=tuple(mask.mean((1, 2, 3)).tolist()))
        return EditResult(image=self.truth.target[views], mask=mask, masks=(mask,), trace=trace)

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """Where the truth differs, for each instruction alike."""
        mask = self.truth.changed[self._views(request)].float()
        return tuple(mask for _ in request.instructions)

    def _views(self, request: EditRequest) -> list[int]:
        """Which photos these are."""
        photos = request.preserved.cpu()
        return [int((self.truth.source - photo).abs().mean((1, 2, 3)).argmin()) for photo in photos]


def waited_share(seconds: Sequence[float]) -> float | None:
    """Share of the time of training steps in which they waited for edits.

    Args:
        seconds: of each step; most of them waited for nothing.
    """
    if not seconds:
        return None
    median = statistics.median(seconds)
    plain = statistics.fmean([each for each in seconds if each <= _WAITING * median])
    return sum(each - plain for each in seconds if each > _WAITING * median) / sum(seconds)


def wait_for(device: torch.device) -> None:
    """Let a device finish what was queued; a CPU queues nothing."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Begin to look for the peak of memory anew."""
    if device.type != "cpu":
        torch.get_device_module(device).reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        # Other systems than Linux remember the peak of the whole process; `peak_memory` then tells nothing.
        return


def peak_memory(device: torch.device, status: Path = Path("/proc/self/status")) -> float | None:
    """Most memory since `forget_peak` in MiB: of the device or, on a CPU, of the process; None where nobody can tell.

    Args:
        device: where the work was done.
        status: what the system says about this process.
    """
    if device.type != "cpu":
        return torch.get_device_module(device).max_memory_allocated(device) / 2**20
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return peaks[0] / 2**10 if peaks else None
