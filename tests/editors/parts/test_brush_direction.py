"""The way of an edit in CLIP's space is the published one, and a learned embedding can be turned towards it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from maskedit.editors.core.errors import ModelError
from maskedit.editors.parts.brush_clip import ClipScorer, load_clip
from maskedit.editors.parts.brush_direction import MOST_COSINE, EditDirection

Pictures = Callable[..., torch.Tensor]


@pytest.fixture
def clip(clip_folder: Path) -> ClipScorer:
    return load_clip(str(clip_folder), device="cpu")


@pytest.fixture
def embeds(clip: ClipScorer) -> torch.Tensor:
    return torch.randn(1, 7, clip.text_width, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def direction(clip: ClipScorer, embeds: torch.Tensor, pictures: Pictures) -> EditDirection:
    return EditDirection(clip, embeds, first_row=1, before=pictures(2), after=pictures(2, seed=1))


def test_it_is_the_published_term(
    clip: ClipScorer, embeds: torch.Tensor, direction: EditDirection, pictures: Pictures
) -> None:
    """Written out: features are not normalised before their mean, and all rows of the prompt count."""
    way = clip.picture_features(pictures(2, seed=1)).mean(0) - clip.picture_features(pictures(2)).mean(0)
    learned = torch.randn(1, 3, clip.text_width, generator=torch.Generator().manual_seed(2))
    whole = embeds.clone()
    whole[:, 1:4] = learned
    told = clip.network.text_projection(whole[0].mean(0))
    expected = (way / way.norm()) @ (told / told.norm())
    torch.testing.assert_close(direction.cosine(learned), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        direction.cosine(embeds[:, 1:4]),
        F.cosine_similarity(clip.network.text_projection(embeds.mean(1)), direction.way[None])[0],
        atol=1e-5,
        rtol=1e-4,
    )


def test_a_gradient_turns_the_rows_until_half_is_reached(embeds: torch.Tensor, direction: EditDirection) -> None:
    learned = embeds[:, 1:4].clone().requires_grad_()
    for _ in range(2000):
        gain = direction.gain(learned)
        if gain.detach() >= MOST_COSINE:
            break
        (gradient,) = torch.autograd.grad(gain, [learned])
        with torch.no_grad():
            learned += gradient
    assert direction.cosine(learned).detach() >= MOST_COSINE
    assert float(direction.gain(learned).detach()) == MOST_COSINE
    (none,) = torch.autograd.grad(direction.gain(learned), [learned])
    assert not none.any()


def test_swapping_the_sides_turns_it_round(
    clip: ClipScorer, embeds: torch.Tensor, direction: EditDirection, pictures: Pictures
) -> None:
    other = EditDirection(clip, embeds, first_row=1, before=pictures(2, seed=1), after=pictures(2))
    torch.testing.assert_close(other.way, -direction.way)
    torch.testing.assert_close(other.cosine(embeds[:, 1:2]), -direction.cosine(embeds[:, 1:2]))


def test_another_text_encoder_is_refused_at_once(clip: ClipScorer, pictures: Pictures) -> None:
    with pytest.raises(ModelError, match="pass --clip the CLIP whose text encoder the checkpoint has"):
        EditDirection(clip, torch.rand(1, 7, 8), first_row=1, before=pictures(1), after=pictures(1))
