"""Work beside other work on one device: a stream of its own, waiting for what was queued, and peak memory.

A CPU queues nothing, so there streams and waiting come to nothing, and memory is that of the whole process.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch

SAMPLE_SECONDS = 0.02
"""How often the memory of a process is read while its peak is looked for."""


def _queues_work(device: torch.device | str) -> bool:
    return torch.device(device).type not in {"cpu", "meta", "mps"}


@contextmanager
def own_stream(device: torch.device | str) -> Generator[None]:
    """Queue the work of this thread on a new stream, beside what other threads queue; it is finished on leaving.

    Args:
        device: where the work is done.
    """
    if not _queues_work(device):
        yield
        return
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def wait_for(*devices: torch.device | str) -> None:
    """Wait until everything queued on some devices is done."""
    for device in {torch.device(each) for each in devices}:
        if _queues_work(device):
            torch.cuda.synchronize(device)


class PeakMemory:
    """The most memory in use since it was made.

    On a CUDA device that is what tensors took; elsewhere it is the process's resident set, read from time to time
    by a thread, with all that other threads of the process took meanwhile.

    Args:
        device: whose memory.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._peak: int | None = None
        self._stop = threading.Event()
        self._sampler: threading.Thread | None = None
        if _queues_work(device):
            wait_for(device)
            torch.cuda.reset_peak_memory_stats(device)
            return
        read = _resident_reader()
        if read is not None:
            self._peak = read()
            self._sampler = threading.Thread(target=self._watch, args=(read,), daemon=True, name="peak-memory")
            self._sampler.start()

    def _watch(self, read: Callable[[], int]) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak or 0, read())

    def stop(self) -> int | None:
        """The peak in bytes, and an end of looking for it; None where the system does not tell."""
        if _queues_work(self._device):
            wait_for(self._device)
            return int(torch.cuda.max_memory_allocated(self._device))
        if self._sampler is not None:
            self._stop.set()
            self._sampler.join()
            self._sampler = None
        return self._peak


def _resident_reader() -> Callable[[], int] | None:
    """Reads how much memory this process has, in bytes; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None

    def read() -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    return read
