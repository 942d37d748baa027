"""What is drawn at random for one sample of the training: noise, noise level, template, and what is dropped.

Each sample has a generator of its own, seeded by its number, so that what a step learns from does not depend on how its
samples are divided into micro-batches or over processes. Each stage numbers its samples from another place, so that it
meets others than the stage before, with other noise.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .recipe import SmartEditStage

_SAMPLES_OF_A_STAGE = 1 << 40
"""Distance of the first samples of two stages; above the number of samples of any run."""
_FIRST: dict[SmartEditStage, int] = {"1": 0, "2a": _SAMPLES_OF_A_STAGE, "2b": 2 * _SAMPLES_OF_A_STAGE}


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The draws of one sample."""

    template: float
    """In [0, 1): which of the templates an instruction is put into."""
    level: float
    """In [0, 1): how much noise."""
    drop: float
    """In [0, 1): what is dropped."""
    noise: Float[Tensor, "channels latent_height latent_width"]
    """Standard normal."""

    def is_dropped(self, share: float) -> tuple[bool, bool]:
        """Whether what was read, and whether the picture, is dropped.

        One draw decides both: below 2 `share` the text goes, from `share` to 3 `share` the picture.

        Args:
            share: of samples that lose the text alone, the picture alone, or both; at most 1/3.
        """
        return self.drop < 2 * share, share <= self.drop < 3 * share

    def timestep(self, total: int, *, high_noise: bool = False) -> int:
        """A training timestep below `total`; with `high_noise`, t is drawn in proportion to t."""
        level = self.level**0.5 if high_noise else self.level
        return min(int(level * total), total - 1)

    def template_of(self, templates: int) -> int:
        """Which of so many templates."""
        return min(int(self.template * templates), templates - 1)


def first_sample(stage: SmartEditStage) -> int:
    """Number of the first sample of a stage."""
    return _FIRST[stage]


def draw_for(number: int, *, seed: int, shape: tuple[int, int, int]) -> Draws:
    """The draws of a sample.

    Args:
        number: of the sample in its run, at least 0.
        seed: of the run.
        shape: channels, rows and columns of the noise.
    """
    generator = torch.Generator().manual_seed(_seed_of(0, seed, number))
    template, level, drop = torch.rand(3, generator=generator, dtype=torch.double).tolist()
    return Draws(template=template, level=level, drop=drop, noise=torch.randn(shape, generator=generator))


def dropout_seed(number: int, *, seed: int) -> int:
    """What the dropout of networks is seeded with, where a sample is the first of those that go through at once.

    Args:
        number: of the sample.
        seed: of the run.
    """
    return _seed_of(1, seed, number)


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
