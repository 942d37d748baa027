"""What SmartEdit learns from: pictures with an instruction and the edited picture, or with a question and its answer.

Sources are indexed and say nothing of order; a mixture draws from them by sample number, so that a run that is cut,
or divided over processes, meets the same samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..core.errors import InputError, MaskeditError

_IN_A_ROW = 8
"""So many samples behind each other that cannot be read are no accident."""


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
    skipped: tuple[str, ...] = ()
    """Why others of its source, in whose place it is, could not be read."""

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
    """Sources in given shares; a sample depends on its number and the seed alone.

    Sets of millions have samples that cannot be read: a lost photo, a line without a caption. The next one of the same
    source takes their place, and says so.
    """

    def __init__(
        self,
        sources: Mapping[str, SampleSource],
        shares: Mapping[str, float],
        *,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        """Mix sources.

        Args:
            sources: by name.
            shares: how often each is drawn from, in proportion; a source without one is left out.
            seed: of all draws.
            strict: never put a sample in the place of another.

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
        self._tries = 1 if strict else _IN_A_ROW

    def draw(self, number: int) -> Sample:
        """The sample of a number, at least 0.

        Raises:
            InputError: if neither it nor those behind it can be read.
        """
        rng = np.random.default_rng([self._seed, number])
        name = self.names[int(rng.choice(len(self.names), p=self._shares))]
        source = self._sources[name]
        index = int(rng.integers(len(source)))
        skipped = list[str]()
        for attempt in range(min(self._tries, len(source))):
            place = (index + attempt) % len(source)
            try:
                sample = _worded(source.read(place, rng))
            except (MaskeditError, OSError, ValueError) as error:
                skipped.append(f"{name} {place}: {error}")
                # How much was drawn before it failed is no business of the next one.
                rng = np.random.default_rng([self._seed, number, attempt + 1])
                continue
            return replace(sample, skipped=tuple(skipped)) if skipped else sample
        others = f" (nor can the {len(skipped) - 1} behind it)" if len(skipped) > 1 else ""
        raise InputError(f"a sample cannot be read{others}: {skipped[0]}")


def _worded(sample: Sample) -> Sample:
    if not sample.text.strip() or (sample.answer is not None and not sample.answer.strip()):
        raise ValueError("a sample without words")
    return sample
