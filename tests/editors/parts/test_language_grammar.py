"""Requests that state how something should be, and the order in which forms of requests are tried."""

import pytest

from maskedit.editors.parts.language_grammar import parse_clause


def read(clause: str) -> list[tuple[str, str, str]]:
    return [(change.kind, change.objects, change.result) for change in parse_clause(clause)]


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("the car should be red", [("modify", "the car", "red")]),
        ("could the sky be pink", [("modify", "the sky", "pink")]),
        ("I want the sky to be pink", [("modify", "the sky", "pink")]),
        ("it would be nice if the bus were green", [("modify", "the bus", "green")]),
        ("I'd like the cylinder in cyan", [("modify", "the cylinder", "cyan")]),
        ("let the dog wear a hat", [("add", "the dog", "a hat")]),
        ("I want a hat on the dog", [("add", "the dog", "a hat")]),
        ("there should be a bird on the branch", [("add", "the branch", "a bird")]),
        ("let there be snow", [("add", "", "snow")]),
        ("I don't want the tree there", [("remove", "the tree", "")]),
        ("there should be no clouds", [("remove", "clouds", "")]),
        ("the car must be gone", [("remove", "the car", "")]),
        ("I want the lamp to disappear", [("remove", "the lamp", "")]),
        ("have a typewriter instead of the laptop", [("replace", "the laptop", "a typewriter")]),
        ("put a cat where the dog is", [("replace", "the dog", "a cat")]),
        (
            "the wall should be white and the floor black",
            [("modify", "the wall", "white"), ("modify", "the floor", "black")],
        ),
    ],
)
def test_statements(clause: str, expected: list[tuple[str, str, str]]) -> None:
    assert read(clause) == expected


def test_each_of_several_edits_has_its_own_text() -> None:
    texts = [c.text for c in parse_clause("the wall should be white and the floor black")]
    assert texts == ["make the wall white", "make the floor black"]
    assert [c.text for c in parse_clause("the wall should be white")] == ["the wall should be white"]


@pytest.mark.parametrize(
    "clause",
    ["hello", "the cat", "what a nice day", "I love this picture", "the cat is cute", "make", "swap cats", "12"],
)
def test_what_is_no_request(clause: str) -> None:
    assert parse_clause(clause) == []
