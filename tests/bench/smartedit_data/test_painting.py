"""Segmentation as editing."""

import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.painting import COLORS, TEMPLATES, paint, painting_sample


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_words_are_as_many_as_the_paper_has() -> None:
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 11
    assert tuple(COLORS) == ("red", "purple", "blue", "green", "yellow", "white", "black", "gray")
    assert all(template.count("{object}") == template.count("{color}") == 1 for template in TEMPLATES)


@pytest.mark.parametrize("color", COLORS)
def test_the_target_is_half_colour_inside_and_the_source_outside(image: torch.Tensor, color: str) -> None:
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[2:4, 3:6] = True
    target = paint(image, mask, color)
    assert torch.equal(target[:, ~mask], image[:, ~mask])
    for channel, level in enumerate(COLORS[color]):
        expected = 0.5 * image[channel, mask] + 0.5 * level / 255
        torch.testing.assert_close(target[channel, mask], expected)


def test_nothing_meant_is_nothing_changed(image: torch.Tensor, rng: np.random.Generator) -> None:
    sample = painting_sample(image, torch.zeros(6, 8, dtype=torch.bool), "a unicorn", rng)
    assert sample.is_edit and torch.equal(sample.target, image)


def test_every_phrasing_and_colour_is_drawn(image: torch.Tensor, rng: np.random.Generator) -> None:
    mask = torch.ones(6, 8, dtype=torch.bool)
    texts = [painting_sample(image, mask, "The Blue Shirt.", rng, before="Which one? ").text for _ in range(600)]
    assert {text for text in texts if not text.startswith("Which one? ")} == set()
    assert all("the blue shirt" in text and ".." not in text for text in texts)
    assert len(set(texts)) == len(TEMPLATES) * len(COLORS)


def test_draws_follow_the_generator(image: torch.Tensor) -> None:
    mask = torch.ones(6, 8, dtype=torch.bool)
    one, other = (painting_sample(image, mask, "it", np.random.default_rng(3)) for _ in range(2))
    assert one.text == other.text and torch.equal(one.target, other.target)
