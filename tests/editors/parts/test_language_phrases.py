"""Noun phrases, lists of them, and qualities put on them."""

import pytest

from maskedit.editors.parts.language_phrases import (
    Noun,
    agree,
    group_list,
    is_all_quality,
    parse_list,
    parse_noun,
    plain_quality,
    qualify,
    split_list,
    split_quality,
)


def noun(text: str) -> Noun:
    found = parse_noun(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "phrase", "head"),
    [
        ("the left red cube", "left red cube", "cube"),
        ("The Cube on the left", "cube on the left", "Cube"),
        ("all of the cubes", "cubes", "cubes"),
        ("every sphere", "sphere", "sphere"),
        ("one of the cubes", "cube", "cube"),
        ("the small cyan thing", "small cyan thing", "thing"),
        ("the thing that can roll", "thing that can roll", "thing"),
        ("his hat", "hat", "hat"),
        ("the man's shirt", "man's shirt", "shirt"),
        ("the bears left of the tree", "bears left of the tree", "bears"),
        ("the person standing next to the car", "person standing next to the car", "person"),
        ("the tall building", "tall building", "building"),
        ('"the cat".', "cat", "cat"),
    ],
)
def test_a_phrase_is_read(text: str, phrase: str, head: str) -> None:
    assert noun(text).phrase == phrase
    assert noun(text).head == head


@pytest.mark.parametrize("text", ["", "the", "on the table", "?!", "that", "of the"])
def test_what_names_nothing(text: str) -> None:
    assert parse_noun(text) is None


def test_owner_and_place() -> None:
    assert noun("the old man's hat").owner == "old man" and noun("the hat").owner is None
    assert noun("the cup on the wooden table").place == "wooden table"
    assert noun("the cup on the left").place is None and noun("the cup").place is None
    assert noun("the cup on the left").locates and not noun("the man in the red shirt").locates


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("the cat and the dog", ["the cat", "the dog"]),
        ("the cat, the dog, and a bird", ["the cat", "the dog", "a bird"]),
        ("the red and blue ball", ["the red and blue ball"]),
        ("the cube red and shiny", ["the cube red and shiny"]),
        ("the ball between the cube and the cone", ["the ball between the cube and the cone"]),
    ],
)
def test_lists(text: str, items: list[str]) -> None:
    assert split_list(text) == items
    assert len(parse_list(text)) == len(items)


def test_results_close_groups() -> None:
    def complete(item: str) -> bool:
        return "with" in item

    assert group_list("a with b and c with d", complete) == ["a with b", "c with d"]
    assert group_list("a and b with c", complete) == ["a and b with c"]
    assert group_list("a with b and c", complete) == ["a with b and c"]
    assert group_list("a and b", complete) == ["a and b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the large cube small", ("the large cube", "small")),
        ("the cube on the left bright red", ("the cube on the left", "bright red")),
        ("the light brighter", ("the light", "brighter")),
        ("the old rose pink", ("the old rose", "pink")),
        ("the cube much bigger", ("the cube", "much bigger")),
        ("the man in black older", ("the man in black", "older")),
        ("the cube red and shiny", ("the cube", "red and shiny")),
        ("the red cube", None),
        ("the cat", None),
    ],
)
def test_qualities_are_split_off(text: str, expected: tuple[str, str] | None) -> None:
    assert split_quality(text) == expected


@pytest.mark.parametrize(
    ("text", "quality", "expected"),
    [
        ("large shiny red cube", "blue", "large shiny blue cube"),
        ("left cube", "green", "left green cube"),
        ("light blue cube", "dark red", "dark red cube"),
        ("man's shirt", "blue", "man's blue shirt"),
        ("coffee cup", "red", "red coffee cup"),
        ("large metal cube", "blue", "large blue metal cube"),
        ("red cube", "bigger", "bigger red cube"),
        ("shiny cube", "matte", "matte cube"),
        ("old man", "younger", "younger man"),
        ("wooden table", "glass", "glass table"),
        ("red and blue ball", "green", "green ball"),
    ],
)
def test_a_quality_takes_the_place_of_its_kind(text: str, quality: str, expected: str) -> None:
    assert qualify(noun(text), quality).core == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a little bit darker", "darker"),
        ("a darker shade of blue", "darker blue"),
        ("made of gold", "gold"),
        ("twice as big", "much larger"),
        ("bigger than the ball", "bigger"),
        ("the same color as the ball", "in the same color as the ball"),
    ],
)
def test_plain_qualities(text: str, expected: str) -> None:
    assert plain_quality(text) == expected


def test_what_is_only_quality() -> None:
    assert all(is_all_quality(text) for text in ("red", "a darker shade of blue", "out of gold", "red and shiny"))
    assert not any(is_all_quality(text) for text in ("a cat", "red cube", "", "very"))


def test_a_replacement_keeps_owner_and_place() -> None:
    assert agree(noun("a suit"), noun("the woman's dress")).caption == "a woman's suit"
    assert agree(noun("a pear"), noun("the apple on the plate")).phrase == "pear on the plate"
    assert agree(noun("a robot"), noun("the man in the red shirt")).phrase == "robot"
