"""Samples and their mixtures: what is drawn depends on its number alone, and shares are kept."""

from collections import Counter

import numpy as np
import pytest
import torch

from maskedit.editors import InputError
from maskedit.editors.smartedit.samples import Mixture, Sample, SampleSource


class Numbers:
    """Samples that say which source they are of, which one they are, and what was drawn for them."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        return Sample(text=f"{self.name} {index} {rng.integers(1000)}")


SOURCES = {"edits": Numbers("edits", 7), "talks": Numbers("talks", 3), "none": Numbers("none", 0)}
SHARES = {"edits": 3.0, "talks": 1.0}


def test_a_collection_is_a_source() -> None:
    assert isinstance(SOURCES["edits"], SampleSource)


def test_a_sample_depends_on_its_number_and_the_seed_alone() -> None:
    once, again = Mixture(SOURCES, SHARES), Mixture(SOURCES, SHARES)
    forwards = [once.draw(n) for n in range(40)]
    assert [again.draw(n) for n in reversed(range(40))] == list(reversed(forwards))
    assert [Mixture(SOURCES, SHARES, seed=1).draw(n) for n in range(40)] != forwards


class Damaged(Numbers):
    """Some cannot be read, after something was drawn for them."""

    broken: frozenset[int] = frozenset({1, 2})

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        sample = super().read(index, rng)
        if index in self.broken:
            raise InputError(f"no picture {index}")
        return sample


def test_the_next_one_takes_the_place_of_a_sample_that_cannot_be_read() -> None:
    whole, damaged = ({"a": kind("a", 5)} for kind in (Numbers, Damaged))
    once, again, plain = (Mixture(source, {"a": 1.0}) for source in (damaged, damaged, whole))
    seen = set[str]()
    for number in range(60):
        sample = once.draw(number)
        index = plain.draw(number).text.split()[1]
        expected = "3" if index in "12" else index
        assert sample == again.draw(number)
        assert sample.text.split()[1] == expected
        assert len(sample.skipped) == {"1": 2, "2": 1}.get(index, 0)
        seen.update(sample.skipped)
        if not sample.skipped:
            assert sample == plain.draw(number)
    assert seen == {"a 1: no picture 1", "a 2: no picture 2"}


def test_a_source_of_nothing_but_damage_ends_the_run_and_so_does_one_if_asked() -> None:
    class Lost(Damaged):
        broken = frozenset(range(20))

    with pytest.raises(InputError, match=r"a sample cannot be read \(nor can the 7 behind it\): a \d+: no picture \d+"):
        Mixture({"a": Lost("a", 20)}, {"a": 1.0}).draw(0)
    strict = Mixture({"a": Damaged("a", 3)}, {"a": 1.0}, strict=True)
    with pytest.raises(InputError, match="a sample cannot be read: a 1: no picture 1"):
        [strict.draw(number) for number in range(20)]


@pytest.mark.parametrize("empty", [Sample(text=" "), Sample(text="what?", answer=" ")])
def test_a_sample_without_words_cannot_be_read(empty: Sample) -> None:
    class Silent(Numbers):
        def read(self, index: int, rng: np.random.Generator) -> Sample:
            return empty

    with pytest.raises(InputError, match="a sample without words"):
        Mixture({"a": Silent("a", 2)}, {"a": 1.0}).draw(0)


def test_shares_are_kept() -> None:
    texts = [Mixture(SOURCES, SHARES).draw(number).text for number in range(4000)]
    found = Counter(text.split()[0] for text in texts)
    assert abs(found["edits"] / 4000 - 0.75) < 0.03
    assert len({text.rsplit(" ", 1)[0] for text in texts}) == 10


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"others": 1.0}, "got 'others'"),
        ({"edits": 0.0}, "not all 0"),
        ({"edits": -1.0}, "at least 0"),
        ({"none": 1.0}, "none in 'none'"),
    ],
)
def test_shares_that_make_no_sense_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(SOURCES, shares)


def test_a_sample_is_an_edit_a_talk_or_a_caption() -> None:
    image = torch.zeros(3, 4, 4)
    assert Sample(text="make it red", image=image, target=image).is_edit
    assert not Sample(text="what is this?", image=image, answer="a cube").is_edit
    with pytest.raises(ValueError, match="target must come with an image of its size"):
        Sample(text="make it red", target=image)
    with pytest.raises(ValueError, match="answer must be None"):
        Sample(text="make it red", image=image, target=image, answer="done")
