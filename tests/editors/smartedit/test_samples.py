"""Samples and their mixtures: what is drawn depends on its number alone, and shares are kept."""

from collections import Counter

import numpy as np
import pytest
import torch

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
    forwards = once.draw_many(range(40))
    assert [again.draw(n) for n in reversed(range(40))] == list(reversed(forwards))
    assert Mixture(SOURCES, SHARES, seed=1).draw_many(range(40)) != forwards


def test_shares_are_kept() -> None:
    texts = [sample.text for sample in Mixture(SOURCES, SHARES).draw_many(range(4000))]
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
