"""The initial text follows from what tells the sides apart, and is empty where nothing does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors.core.errors import InputError
from maskedit.editors.parts.brush_phrases import PhraseConfig, PhraseScorer, find_phrases, read_vocabulary

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0), "gray": (0.6, 0.6, 0.6)}


class ColourScorer:
    """Knows four colours: the cosine of a picture's mean colour with that of the phrase."""

    def similarity(self, image: torch.Tensor, phrases: Sequence[str]) -> torch.Tensor:
        mean = torch.nn.functional.normalize(image.mean((2, 3)), dim=-1)
        known = torch.nn.functional.normalize(torch.tensor([COLOURS[phrase] for phrase in phrases]), dim=-1)
        return (known @ mean.T).mean(1)


def plain(*colour: float) -> torch.Tensor:
    return torch.tensor(colour).view(1, 3, 1, 1).expand(2, 3, 8, 8)


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "colours.txt"
    path.write_text("# colours\nred, green\n\nblue # of the sky\n red ,gray\n")
    return path


REDDISH, BLUISH = plain(0.8, 0.2, 0.2), plain(0.2, 0.2, 0.8)


def test_the_text_names_both_sides(vocabulary: Path) -> None:
    scorer = ColourScorer()
    assert isinstance(scorer, PhraseScorer)
    found = find_phrases(REDDISH, BLUISH, scorer, PhraseConfig(vocabulary=vocabulary))
    assert found.text == "turn red into blue"
    own, other = (float(scorer.similarity(side, ["blue"])[0]) for side in (BLUISH, REDDISH))
    (score,) = [each for each in found.after if each.phrase == "blue"]
    assert score.similarity == pytest.approx(own)
    assert score.sensitivity == pytest.approx((own - other) / own)


def test_the_literal_reading_takes_the_difference(vocabulary: Path) -> None:
    config = PhraseConfig(vocabulary=vocabulary, sensitivity="cosine", template="from {before} to {after}")
    found = find_phrases(REDDISH, BLUISH, ColourScorer(), config)
    own, other = (float(ColourScorer().similarity(side, ["red"])[0]) for side in (REDDISH, BLUISH))
    (score,) = [each for each in found.before if each.phrase == "red"]
    assert score.sensitivity == pytest.approx(own - other)
    assert found.text == "from red to blue"


def test_swapping_the_sides_swaps_the_phrases(vocabulary: Path) -> None:
    """I7."""
    config = PhraseConfig(vocabulary=vocabulary)
    one, other = (find_phrases(*sides, ColourScorer(), config) for sides in ((REDDISH, BLUISH), (BLUISH, REDDISH)))
    assert (one.before, one.after) == (other.after, other.before)
    assert other.text == "turn blue into red"


def test_equal_sides_have_no_text(vocabulary: Path) -> None:
    """I7."""
    found = find_phrases(REDDISH, REDDISH, ColourScorer(), PhraseConfig(vocabulary=vocabulary, one_sided=True))
    assert found.text == ""
    assert {each.sensitivity for each in (*found.before, *found.after)} == {0.0}


def test_one_side_alone_is_a_choice(vocabulary: Path) -> None:
    """Only the closest phrase counts, and gray fits what is reddish nearly as well as what is gray."""
    sides = (plain(0.5, 0.5, 0.5), REDDISH)
    values: dict[str, Any] = {"vocabulary": vocabulary, "candidates": 1, "threshold": 0.3}
    assert find_phrases(*sides, ColourScorer(), PhraseConfig(**values)).text == ""
    assert find_phrases(*sides, ColourScorer(), PhraseConfig(**values, one_sided=True)).text == "make it red"


class WordScorer:
    """Likes captions by the letters they share with what it looks for, once each."""

    def similarity(self, image: torch.Tensor, phrases: Sequence[str]) -> torch.Tensor:
        wanted = "abcdef" if image.mean() < 0.5 else "ghi"
        return torch.tensor([len(set(phrase) & set(wanted)) / (1 + 0.1 * len(phrase)) for phrase in phrases])


def test_a_chain_goes_on_with_what_is_still_missing() -> None:
    """The second closest phrase says what the first one said; the chain takes the one that adds to it."""
    known = ("abcd", "abc", "ef", "ghi")
    sides = (plain(0.1, 0.1, 0.1), plain(0.9, 0.9, 0.9))
    found = {
        search: find_phrases(*sides, WordScorer(), PhraseConfig(candidates=2, search=search), known=known).before
        for search in ("independent", "chain")
    }
    assert [each.phrase for each in found["independent"]] == ["abcd", "abc"]
    assert [each.phrase for each in found["chain"]] == ["abcd", "ef"]
    own = float(WordScorer().similarity(sides[0], ["ef"])[0])
    assert found["chain"][1].similarity == pytest.approx(own), "each is scored by itself"


def test_a_named_vocabulary_goes_before_what_a_clip_brings_along(vocabulary: Path) -> None:
    known = ("green", "gray")
    found = find_phrases(REDDISH, BLUISH, ColourScorer(), PhraseConfig(candidates=9), known=known)
    assert {each.phrase for each in found.before} == {*known}
    named = find_phrases(REDDISH, BLUISH, ColourScorer(), PhraseConfig(vocabulary=vocabulary), known=known)
    assert named.text == "turn red into blue"


def test_the_vocabulary_that_ships() -> None:
    phrases = read_vocabulary()
    assert len(phrases) > 300
    assert len(set(phrases)) == len(phrases)
    assert {"watercolor painting", "midnight", "snowfall", "autumn", "glass", "striped pattern"} <= set(phrases)


def test_a_vocabulary_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the vocabulary"):
        read_vocabulary(tmp_path / "none")
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(InputError, match="no phrases in the vocabulary"):
        read_vocabulary(tmp_path / "empty")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"threshold": -1.0}, "threshold must be at least 0, got -1"),
        ({"template": "make it {after}"}, "template must hold"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhraseConfig(**values)
