"""Courtesies are dropped and requests are taken apart."""

import pytest

from maskedit.editors.parts.language_clauses import begins_request, split_clauses, strip_courtesy


@pytest.mark.parametrize(
    "text",
    [
        "paint the wall",
        "Could you please paint the wall?",
        "Hey, can you kindly paint the wall for me, thanks!",
        "I'd like you to paint the wall",
        "would you mind painting the wall?",
        "How about painting the wall?",
        "let's paint the wall.",
        "please also paint the wall in this picture",
    ],
)
def test_courtesies_are_dropped(text: str) -> None:
    assert strip_courtesy(text) == "paint the wall"


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("make the cube red and remove the ball", ["make the cube red", "remove the ball"]),
        ("remove the cat and the dog", ["remove the cat and the dog"]),
        ("paint the car blue, then delete the tree", ["paint the car blue", "delete the tree"]),
        ("open the door. close the window; remove the cat", ["open the door", "close the window", "remove the cat"]),
        ("color the cube red, and please also add a hat", ["color the cube red", "add a hat"]),
        ("add a hat and glasses and paint it red", ["add a hat and glasses", "paint it red"]),
        ("remove the paint and paper", ["remove the paint and paper"]),
        ("make the wall white and the floor should be black", ["make the wall white", "the floor should be black"]),
        ("make the shape and color of the cube nicer", ["make the shape and color of the cube nicer"]),
        ("  ", []),
        ("?!", []),
    ],
)
def test_requests_are_taken_apart(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses


def test_typographic_quotes_are_understood() -> None:
    assert split_clauses("make the man\u2019s hat red") == ["make the man's hat red"]


def test_a_noun_that_is_also_a_verb_begins_no_request() -> None:
    assert begins_request("paint the wall") and begins_request("remove hats")
    assert not begins_request("paint brushes") and not begins_request("the dog") and not begins_request("color of it")
