"""Processes that train SmartEdit together, by accelerate: one on each device, or several on the CPU.

`accelerate launch` or torchrun starts them and says, by the environment, how many there are and where they meet.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.optimize import Team

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""What trained networks compute in; their weights are kept in float32 either way."""
_BUCKET_BYTES = 1 << 26
"""Size of what is sent at once."""


@runtime_checkable
class LearningTeam(Team, Protocol):
    """A team that can say who does which part, and compute in mixed precision."""

    @property
    def index(self) -> int:
        """Of this process, from 0."""
        ...

    @property
    def count(self) -> int:
        """Of all processes."""
        ...

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Put the first process's values into each tensor."""
        ...

    def autocast(self) -> AbstractContextManager[object]:
        """A `with` block that computes in the precision of the team."""
        ...


class AcceleratedTeam:
    """The processes that accelerate knows of; one of them, when the program was started as any other."""

    def __init__(self, *, precision: Precision = "float32", cpu: bool = False) -> None:
        """Meet the other processes.

        Args:
            precision: what is computed in inside `autocast`.
            cpu: stay on the CPU where there is something faster.

        Raises:
            InputError: if the processes cannot meet.
        """
        from accelerate import Accelerator

        try:
            self._accelerator = Accelerator(mixed_precision="bf16" if precision == "bfloat16" else "no", cpu=cpu)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(
                f"cannot join the other processes ({error}): start all of them by one `accelerate launch` or torchrun"
            ) from error

    @property
    def is_first(self) -> bool:
        """Whether this one writes the state and reports."""
        return self._accelerator.is_main_process

    @property
    def index(self) -> int:
        """Of this process, from 0."""
        return self._accelerator.process_index

    @property
    def count(self) -> int:
        """Of all processes."""
        return self._accelerator.num_processes

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self._accelerator.device

    def autocast(self) -> AbstractContextManager[object]:
        """A `with` block that computes in the precision of the team."""
        return self._accelerator.autocast()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes in the place of each tensor."""
        if self.count > 1:
            for bucket in in_buckets(tensors, _BUCKET_BYTES):
                _put_back(self._accelerator.reduce(_flat(bucket), "mean"), bucket)

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Put the first process's values into each tensor."""
        if self.count > 1:
            from accelerate.utils import broadcast

            for bucket in in_buckets(tensors, _BUCKET_BYTES):
                _put_back(broadcast(_flat(bucket)), bucket)

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the others; nothing of the team works afterwards."""
        self._accelerator.end_training()
        if self.count > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def in_buckets(tensors: Sequence[Tensor], most_bytes: int) -> Iterator[list[Tensor]]:
    """Tensors in groups of one type and device that can be sent as one; each is in one group, in any order.

    Args:
        tensors: any, of any shapes.
        most_bytes: what a group may hold, unless a single tensor is larger.
    """
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for group in kinds.values():
        bucket, held = list[Tensor](), 0
        for tensor in group:
            size = tensor.numel() * tensor.element_size()
            if bucket and held + size > most_bytes:
                yield bucket
                bucket, held = [], 0
            bucket.append(tensor)
            held += size
        yield bucket


def _flat(bucket: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in bucket])


@torch.no_grad()
def _put_back(flat: Any, bucket: Sequence[Tensor]) -> None:
    start = 0
    for tensor in bucket:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
