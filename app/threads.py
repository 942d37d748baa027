"""How many threads to compute with: more than there are free cores make torch many times slower, not faster."""

import os

VARIABLE = "OMP_NUM_THREADS"
MOST = 8
"""The embedded checkpoint's networks are small; more threads would wait for each other."""


def free_cores() -> int:
    """Cores this process may use and nobody else does at the moment, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Windows knows no load average.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(MOST, cores - round(load)))


def choose_threads() -> None:
    """Let torch use the free cores, unless the user said how many threads to take."""
    if os.environ.get(VARIABLE):
        return
    import torch

    torch.set_num_threads(free_cores())


def thread_environment() -> dict[str, str]:
    """What a program started from here must find in its environment to take as many threads as this one."""
    if os.environ.get(VARIABLE):
        return {}
    import torch

    return {VARIABLE: str(torch.get_num_threads())}
