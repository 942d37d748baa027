"""Work beside other work: nothing to do on a CPU, and the memory of a process."""

import threading

import pytest
import torch

from maskedit.editors.core import devices
from maskedit.editors.core.devices import PeakMemory, own_stream, wait_for


def test_a_cpu_needs_no_streams() -> None:
    with own_stream("cpu"):
        total = torch.ones(3).sum()
    wait_for("cpu", torch.device("cpu"))
    assert total == 3


def test_an_error_leaves_the_stream() -> None:
    with pytest.raises(KeyError), own_stream("cpu"):
        raise KeyError


def test_the_peak_counts_what_was_freed_again() -> None:
    before = PeakMemory("cpu").stop()
    if before is None:
        pytest.skip("this system does not tell how much memory a process has")
    size = 64 << 20
    watch = PeakMemory("cpu")
    block = torch.ones(size, dtype=torch.uint8)
    # Long enough to be seen once.
    threading.Event().wait(10 * devices.SAMPLE_SECONDS)
    del block
    peak = watch.stop()
    assert peak is not None
    assert before + 0.5 * size < peak < before + 4 * size
    assert watch.stop() == peak
    assert not [thread for thread in threading.enumerate() if thread.name == "peak-memory"]


@pytest.mark.gpu
def test_streams_of_a_gpu_run_beside_each_other_and_are_waited_for() -> None:
    place = torch.device(torch.accelerator.current_accelerator() or "cpu")
    watch = PeakMemory(place)
    with own_stream(place):
        assert torch.cuda.current_stream(place) != torch.cuda.default_stream(place)
        block = torch.ones(1 << 20, device=place)
    wait_for(place)
    assert float(block.sum()) == 1 << 20
    assert (watch.stop() or 0) >= 4 << 20
