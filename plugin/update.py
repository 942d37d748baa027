"""Which view is edited when, from which noise level and with which seed: pure functions of (seed, edit step).

The iterative dataset update of Instruct-NeRF2NeRF (arXiv 2303.12789): every `rate` training steps the next views
in cyclic order are edited. Nothing here remembers anything, so a run that was interrupted repeats the very draws of an
unbroken one.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ..editors import InputError

TRAIN_TIMESTEPS = 1000
"""Length of the noise schedule of every Stable Diffusion checkpoint."""


class Draw(IntEnum):
    """What a random number is for; each purpose has a stream of its own."""

    RAYS = 0
    FORWARD = 1
    NOISE_LEVEL = 2
    EDITOR = 3
    SETUP = 4


def seed_for(seed: int, draw: Draw, index: int) -> int:
    """A 32-bit seed that depends on the run's seed, the purpose and the step alone."""
    return int(np.random.SeedSequence([seed, int(draw), index]).generate_state(1)[0])


@dataclass(frozen=True, kw_only=True)
class EditTurn:
    """One edit of one view."""

    index: int
    """Running number of the edit, from 0."""
    step: int
    """Edit step (training steps since editing began) at which it is due."""
    view: int
    """Place of the view in the working set."""
    sweep: int
    """How often every view has had its turn before."""
    noise_level: float
    """Share of the noise schedule from which the edit starts, in (0, 1]."""
    seed: int
    """Seed of the editor's own draws."""


@dataclass(frozen=True, kw_only=True)
class EditSchedule:
    """When each view is edited."""

    rate: int
    """Training steps from one edit to the next."""
    count: int
    """Views edited together."""
    views: int
    """Number of views in the working set."""
    lower: float
    """Lowest noise level an edit may start from, as a share of the schedule."""
    upper: float
    """Highest noise level."""
    seed: int

    def __post_init__(self) -> None:
        if self.rate < 1:
            raise InputError(f"edit-rate must be at least 1, got {self.rate}")
        if not 1 <= self.count <= self.views:
            raise InputError(f"edit-count must be from 1 to the number of views ({self.views}), got {self.count}")
        if not 0 < self.lower <= self.upper <= 1:
            raise InputError(f"expected 0 < lower-bound <= upper-bound <= 1, got {self.lower:g} and {self.upper:g}")

    def turns(self, step: int) -> tuple[EditTurn, ...]:
        """The edits due at an edit step; none between two multiples of the rate."""
        if step < 0 or step % self.rate:
            return ()
        first = step // self.rate * self.count
        return tuple(self.turn(first + offset, step=step) for offset in range(self.count))

    def turn(self, index: int, *, step: int) -> EditTurn:
        """The edit with a running number."""
        rng = np.random.default_rng(seed_for(self.seed, Draw.NOISE_LEVEL, index))
        low, high = round(self.lower * TRAIN_TIMESTEPS), round(self.upper * TRAIN_TIMESTEPS)
        return EditTurn(
            index=index,
            step=step,
            view=index % self.views,
            sweep=index // self.views,
            noise_level=int(rng.integers(max(1, low), high + 1)) / TRAIN_TIMESTEPS,
            seed=seed_for(self.seed, Draw.EDITOR, index),
        )

    def planned(self, steps: int) -> int:
        """Number of edits in that many edit steps."""
        return self.count * -(-max(0, steps) // self.rate)
