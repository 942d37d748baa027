"""Plurals, articles and other forms of words."""

import pytest

from maskedit.editors.parts.language_words import (
    forms_of,
    gerund,
    is_plural,
    is_quality,
    singular,
    with_article,
    words_of,
)


@pytest.mark.parametrize(
    ("one", "many"),
    [("cube", "cubes"), ("man", "men"), ("berry", "berries"), ("box", "boxes"), ("bench", "benches"), ("toy", "toys")],
)
def test_one_and_many(one: str, many: str) -> None:
    assert is_plural(many) and not is_plural(one)
    assert singular(many) == one == singular(one)
    assert many in forms_of(one) and one in forms_of(many)


@pytest.mark.parametrize("word", ["bus", "dress", "glass", "iris", "man's", "lens"])
def test_an_s_does_not_make_many(word: str) -> None:
    assert not is_plural(word)


def test_names_of_the_same_thing() -> None:
    assert "sphere" in forms_of("balls") and "cube" not in forms_of("ball")


@pytest.mark.parametrize(
    ("phrase", "noun", "expected"),
    [
        ("red cube", "cube", "a red cube"),
        ("orange cat", "cat", "an orange cat"),
        ("old man", "man", "an old man"),
        ("unicorn", "unicorn", "a unicorn"),
        ("red cubes", "cubes", "red cubes"),
        ("blond hair", "hair", "blond hair"),
        ("man's glasses", "glasses", "a man's glasses"),
        ("pink sky", "sky", "the pink sky"),
        ("two cats", "cats", "two cats"),
        ("rightmost sphere", "sphere", "the rightmost sphere"),
        ("second cube", "cube", "the second cube"),
    ],
)
def test_articles(phrase: str, noun: str, expected: str) -> None:
    assert with_article(phrase, noun) == expected


def test_qualities() -> None:
    assert all(is_quality(word) for word in ("red", "Shiny", "fluffy", "bigger", "wooden", "colorless", "joyful"))
    assert not any(is_quality(word) for word in ("cube", "sky", "boy", "city", "flower", "cat"))


@pytest.mark.parametrize(
    ("verb", "doing"),
    [("smile", "smiling"), ("run", "running"), ("sit", "sitting"), ("look", "looking"), ("lie", "lying")],
)
def test_gerunds(verb: str, doing: str) -> None:
    assert gerund(verb) == doing


def test_words_have_no_punctuation() -> None:
    assert words_of("The man's hat, (20%) is well-known!") == ["the", "man's", "hat", "20%", "is", "well-known"]
