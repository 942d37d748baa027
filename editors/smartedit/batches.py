"""Samples of the training, step by step, read ahead by background workers.

Sample i of step s is number s x batch + i of the mixture, counted from the first of the run, whoever reads it: a run
that is cut, or divided over processes, meets the same samples in the same steps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..core.errors import InputError, MaskeditError
from ..core.images import resize_image
from .samples import Sample


@runtime_checkable
class Drawing(Protocol):
    """Anything that has a sample for every number, as a `Mixture` has."""

    def draw(self, number: int) -> Sample:
        """The sample of a number, at least 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class EncodedSample(Sample):
    """A sample whose pictures were encoded before, at the size that is trained at."""

    image_latents: Float[Tensor, "channels latent_height latent_width"] | None = None
    """Unscaled latents (posterior mode) of the image; None = encoded when it is due."""
    target_latents: Float[Tensor, "channels latent_height latent_width"] | None = None
    """Those of the target."""


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A sample and its number in the run."""

    number: int
    sample: Sample


def share_of(batch: int, index: int, count: int) -> range:
    """Which samples of a step one process takes.

    Args:
        batch: samples of a step.
        index: of the process, from 0.
        count: of processes.

    Raises:
        InputError: if they cannot be shared evenly, which the mean over processes needs.
    """
    if batch % count:
        raise InputError(f"expected a batch that {count} processes can share evenly, got {batch}: set --recipe.batch")
    each = batch // count
    return range(index * each, (index + 1) * each)


def fit_sample(sample: Sample, size: int) -> Sample:
    """The sample with its pictures squashed to a square."""
    if sample.image is None:
        return sample
    resized = [None if each is None else _fit(each, size) for each in (sample.image, sample.target)]
    return replace(sample, image=resized[0], target=resized[1])


def _fit(picture: Float[Tensor, "3 height width"], size: int) -> Float[Tensor, "3 height2 width2"]:
    return resize_image(picture[None], size, size)[0].clamp(0, 1)


_TENSORS = ("image", "target", "image_latents", "target_latents")


@dataclass(frozen=True)
class _Packed:
    """Samples of a step on their way from a worker: a tensor is a file descriptor, so there is one of each kind."""

    rest: tuple[Numbered, ...]
    """All but the tensors."""
    stacks: Mapping[str, tuple[list[int], Tensor]]
    """Which samples have a tensor of a kind, and theirs in one."""

    @classmethod
    def pack(cls, samples: Sequence[Numbered]) -> "_Packed":
        stacks = dict[str, tuple[list[int], Tensor]]()
        for name in _TENSORS:
            tensors = {row: getattr(each.sample, name, None) for row, each in enumerate(samples)}
            found = {row: tensor for row, tensor in tensors.items() if tensor is not None}
            if found:
                stacks[name] = (list(found), torch.stack(list(found.values())))
        bare = [{name: None for name in _TENSORS if hasattr(each.sample, name)} for each in samples]
        rest = [
            replace(each, sample=replace(each.sample, **nothing)) for each, nothing in zip(samples, bare, strict=True)
        ]
        return cls(tuple(rest), stacks)

    def unpack(self) -> tuple[Numbered, ...]:
        own = [dict[str, Tensor]() for _ in self.rest]
        for name, (rows, stack) in self.stacks.items():
            for row, tensor in zip(rows, stack, strict=True):
                own[row][name] = tensor
        return tuple(
            replace(each, sample=replace(each.sample, **tensors)) for each, tensors in zip(self.rest, own, strict=True)
        )


_Step: TypeAlias = "_Packed | MaskeditError"
"""The samples of a step, or why they cannot be read: a worker's own report would be many lines of its innards."""


class _Steps(Dataset[_Step]):
    """What one process learns from in each step."""

    def __init__(self, mixture: Drawing, *, batch: int, share: range, size: int, first: int) -> None:
        self._mixture, self._batch, self._share, self._size, self._first = mixture, batch, share, size, first

    def __getitem__(self, index: int) -> _Step:
        numbers = [self._first + index * self._batch + row for row in self._share]
        try:
            samples = [Numbered(number=n, sample=fit_sample(self._mixture.draw(n), self._size)) for n in numbers]
        except MaskeditError as error:
            return error
        return _Packed.pack(samples)


class StepReader:
    """Reads the samples of one step after another."""

    def __init__(
        self,
        mixture: Drawing,
        *,
        batch: int,
        size: int,
        steps: int,
        first: int = 0,
        index: int = 0,
        count: int = 1,
        workers: int = 0,
        skipped: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare to read; nothing is read yet.

        Args:
            mixture: has the samples.
            batch: samples of a step over all processes.
            size: side of the pictures in pixels.
            steps: how many there are in all.
            first: number of the first sample of the first step.
            index: of this process.
            count: of processes.
            workers: background processes that read ahead; 0 = none.
            skipped: told why samples could not be read in whose place there are others, each time they are met.

        Raises:
            InputError: if the processes cannot share a batch evenly.
        """
        self._dataset = _Steps(mixture, batch=batch, share=share_of(batch, index, count), size=size, first=first)
        self._steps, self._workers, self._skipped = steps, workers, skipped
        self._ahead: Iterator[_Step] | None = None
        self._next = -1

    def read(self, step: int) -> tuple[Numbered, ...]:
        """This process's samples of a step; cheapest in order.

        Raises:
            InputError: if one cannot be read.
        """
        if self._ahead is None or step != self._next:
            self._ahead = self._begin(step)
        self._next = step + 1
        packed = next(self._ahead)
        if isinstance(packed, MaskeditError):
            raise packed
        samples = packed.unpack()
        for reason in (reason for each in samples for reason in each.sample.skipped):
            if self._skipped is not None:
                self._skipped(reason)
        return samples

    def _begin(self, step: int) -> Iterator[_Step]:
        if not self._workers:
            return (self._dataset[each] for each in range(step, self._steps))
        loader = DataLoader(
            self._dataset,
            batch_size=None,
            sampler=range(step, self._steps),
            num_workers=self._workers,
            worker_init_fn=_one_thread,
            collate_fn=_as_it_is,
        )
        return iter(loader)


def _as_it_is(step: Any) -> Any:
    return step


def _one_thread(_worker: int) -> None:
    # Workers stand beside each other and beside the training; more threads would only wait for a processor.
    torch.set_num_threads(1)
