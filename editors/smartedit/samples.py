"""What SmartEdit learns from: pictures with an instruction and the edited picture, or with a question and its answer.

Sources are indexed and say nothing of order; a mixture draws from them by sample number, so that a run that is cut,
or divided over processes, meets the same samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample. With a target it is an edit, with an answer a talk about the picture, with neither a caption."""

    text: str
    """The instruction, the question, or the caption."""
    image: Float[Tensor, "3 height width"] | None = None
    """RGB in [0, 1]; None for a caption, which comes without."""
    target: Float[Tensor, "3 height width"] | None = None
    """The edited picture, of the same size."""
    answer: str | None = None
    """What the language model is to say."""

    def __post_init__(self) -> None:
        if self.target is not None and (self.image is None or self.image.shape != self.target.shape):
            raise ValueError(f"target must come with an image of its size, got the text {self.text[:40]!r}")
        if self.target is not None and self.answer is not None:
            raise ValueError(f"answer must be None where there is a target, got {self.answer[:40]!r}")

    @property
    def is_edit(self) -> bool:
        """Whether the UNet learns from it."""
        return self.target is not None


@runtime_checkable
class SampleSource(Protocol):
    """Any collection of samples that can be reached by number."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One of them; what varies between two visits (a template, a colour) comes from the generator."""
        ...


class Mixture:
    """Sources in given shares; a sample depends on its number and the seed alone."""

    def __init__(self, sources: Mapping[str, SampleSource], shares: Mapping[str, float], *, seed: int = 0) -> None:
        """Mix sources.

        Args:
            sources: by name.
            shares: how often each is drawn from, in proportion; a source without one is left out.
            seed: of all draws.

        Raises:
            ValueError: if a share names no source, is negative, or all are 0, or a source is empty.
        """
        unknown = sorted(set(shares) - set(sources))
        if unknown:
            raise ValueError(f"shares must name sources that are there ({', '.join(sources)}), got {unknown[0]!r}")
        self.names = tuple(name for name, share in shares.items() if share != 0)
        weights = np.array([shares[name] for name in self.names], dtype=float)
        if not len(weights) or (weights < 0).any():
            raise ValueError(f"shares must be at least 0 and not all 0, got {dict(shares)}")
        empty = [name for name in self.names if not len(sources[name])]
        if empty:
            raise ValueError(f"sources must hold samples, got none in {empty[0]!r}")
        self._sources, self._shares, self._seed = sources, weights / weights.sum(), seed

    def draw(self, number: int) -> Sample:
        """The sample of a number, at least 0."""
        rng = np.random.default_rng([self._seed, number])
        name = self.names[int(rng.choice(len(self.names), p=self._shares))]
        source = self._sources[name]
        return source.read(int(rng.integers(len(source))), rng)

    def draw_many(self, numbers: Sequence[int]) -> tuple[Sample, ...]:
        """The samples of some numbers."""
        return tuple(self.draw(number) for number in numbers)
