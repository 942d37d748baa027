"""Which view is edited when, from which noise level and with which seed: pure functions of (seed, edit step).

Two schedules of dataset updates are published. `views` (Instruct-NeRF2NeRF, arXiv 2303.12789): every `rate` training
steps the next views in cyclic order are edited. `sweeps` (Instruct-GS2GS, github.com/cvachha/instruct-gs2gs): every
`sweep_every` steps a sweep begins, in which each step edits the next views and trains on what it has edited, until all
views have had their turn. Nothing here remembers anything, so a run that was interrupted repeats the very draws of an
unbroken one.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from ..editors import InputError

TRAIN_TIMESTEPS = 1000
"""Length of the noise schedule of every Stable Diffusion checkpoint."""


ScheduleName = Literal["views", "sweeps"]


class Draw(IntEnum):
    """What a random number is for; each purpose has a stream of its own."""

    RAYS = 0
    FORWARD = 1
    NOISE_LEVEL = 2
    EDITOR = 3
    SETUP = 4
    ANCHORS = 5
    SWEEP = 6


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

    kind: ScheduleName = "views"
    """`views` = some views every `rate` steps; `sweeps` = all views one after the other, every `sweep_every` steps."""
    rate: int
    """Training steps from one edit to the next; read by `views`."""
    sweep_every: int = 2500
    """Training steps from the beginning of one sweep to that of the next; read by `sweeps`."""
    count: int
    """Views edited together."""
    views: int
    """Number of views in the working set."""
    lower: float
    """Lowest noise level an edit may start from, as a share of the schedule."""
    upper: float
    """Highest noise level."""
    seed: int
    shares_noise: bool = False
    """Whether all views of a sweep draw the same noise, each sweep another; otherwise every edit draws its own."""

    def __post_init__(self) -> None:
        if self.rate < 1:
            raise InputError(f"edit-rate must be at least 1, got {self.rate}")
        if self.sweep_every < 1:
            raise InputError(f"sweep-every must be at least 1, got {self.sweep_every}")
        if not 1 <= self.count <= self.views:
            raise InputError(f"edit-count must be from 1 to the number of views ({self.views}), got {self.count}")
        if not 0 < self.lower <= self.upper <= 1:
            raise InputError(f"expected 0 < lower-bound <= upper-bound <= 1, got {self.lower:g} and {self.upper:g}")

    @property
    def edits_first(self) -> bool:
        """Whether a step trains on what it has just edited, so that its edits come before its batch is drawn."""
        return self.kind == "sweeps"

    @property
    def sweep_steps(self) -> int:
        """Steps that a sweep takes."""
        return -(-self.views // self.count)

    @property
    def period(self) -> int:
        """Steps after which the pattern of steps with and without edits repeats itself.

        Instruct-GS2GS looks for the beginning of a sweep at multiples of `sweep_every` alone; a sweep that takes
        longer is finished first.
        """
        if self.kind == "views":
            return self.rate
        return self.sweep_every * -(-self.sweep_steps // self.sweep_every)

    def turns(self, step: int) -> tuple[EditTurn, ...]:
        """The edits due at an edit step; most steps have none."""
        if step < 0:
            return ()
        cycle, place = divmod(step, self.period)
        if self.kind == "views":
            first = cycle * self.count
            last = first + self.count if place == 0 else first
        else:
            first = cycle * self.views + min(place * self.count, self.views)
            last = min(first + self.count, (cycle + 1) * self.views)
        return tuple(self.turn(index, step=step) for index in range(first, last))

    def focus(self, step: int) -> int | None:
        """The view that a step of a sweep trains on where a step trains on one picture; None = any.

        It is the first of those that the step edits; the others come up in later steps.
        """
        turns = self.turns(step) if self.edits_first else ()
        return turns[0].view if turns else None

    def next_due(self, step: int) -> int:
        """The first edit step, from this one on, that has edits."""
        step = max(0, step)
        return step if self.turns(step) else -(-step // self.period) * self.period

    def turn(self, index: int, *, step: int) -> EditTurn:
        """The edit with a running number."""
        rng = np.random.default_rng(seed_for(self.seed, Draw.NOISE_LEVEL, index))
        low, high = round(self.lower * TRAIN_TIMESTEPS), round(self.upper * TRAIN_TIMESTEPS)
        sweep = index // self.views
        own = seed_for(self.seed, Draw.EDITOR, index)
        return EditTurn(
            index=index,
            step=step,
            view=index % self.views,
            sweep=sweep,
            noise_level=int(rng.integers(max(1, low), high + 1)) / TRAIN_TIMESTEPS,
            seed=seed_for(self.seed, Draw.SWEEP, sweep) if self.shares_noise else own,
        )

    def planned(self, steps: int) -> int:
        """Number of edits in that many edit steps."""
        cycles, rest = divmod(max(0, steps), self.period)
        if self.kind == "views":
            return self.count * (cycles + (rest > 0))
        return self.views * cycles + min(rest * self.count, self.views)
