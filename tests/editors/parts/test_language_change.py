"""What an object becomes: another object, or the same with another quality."""

import pytest

from maskedit.editors.parts.language_change import Change, become, is_one_of, objects_of, predicate, strip_trait
from maskedit.editors.parts.language_words import WEARERS


@pytest.mark.parametrize(
    ("text", "object_"),
    [
        ("the color of the cube", "the cube"),
        ("the cube's colour", "the cube"),
        ("her eye color", "her eye"),
        ("the size of the ball", "the ball"),
        ("the color of the cube from red", "the cube"),
        ("its color", "it"),
    ],
)
def test_traits_are_no_objects(text: str, object_: str) -> None:
    assert strip_trait(text) == (object_, True)


def test_an_object_has_no_trait() -> None:
    assert strip_trait("the red cube") == ("the red cube", False)
    assert strip_trait("the man from the left") == ("the man from the left", False)
    assert [noun.phrase for noun in objects_of("the color of the cube and the ball")] == ["cube", "ball"]


@pytest.mark.parametrize(
    ("result", "kind"),
    [("red", "modify"), ("a darker shade of red", "modify"), ("a red one", "modify"), ("a robot", "replace"),
     ("robots", "replace"), ("on the table", "modify"), ("twice as big", "modify")],
)  # fmt: skip
def test_a_result_is_a_thing_or_a_quality(result: str, kind: str) -> None:
    assert become("the cube", result).kind == kind


def test_what_a_verb_knows_of_its_result() -> None:
    assert become("the dog", "cat").kind == "modify"
    assert become("the dog", "cat", bare=True).kind == "replace"
    assert become("the leaf", "gold").kind == "modify" and become("the leaf", "gold", noun=True).kind == "replace"
    assert become("the shape of the cube", "sphere") == Change(kind="replace", objects="the cube", result="sphere")
    assert become("the color of the cube", "mauve") == Change(kind="modify", objects="the cube", result="mauve")


@pytest.mark.parametrize(
    ("verb", "rest", "expected"),
    [
        ("be", "red", Change(kind="modify", objects="the dog", result="red")),
        ("to be", "a cat", Change(kind="replace", objects="the dog", result="a cat")),
        ("be", "replaced by a cat", Change(kind="replace", objects="the dog", result="a cat")),
        ("be", "wearing a hat", Change(kind="add", objects="the dog", result="a hat", link="wearing")),
        ("wear", "a hat", Change(kind="add", objects="the dog", result="a hat", link="wearing")),
        ("carry", "a bone", Change(kind="add", objects="the dog", result="a bone", link="carrying")),
        ("have", "a collar", Change(kind="add", objects="the dog", result="a collar", link="with")),
        ("have", "a red color", Change(kind="modify", objects="the dog", result="red")),
        ("have", "no collar", Change(kind="remove", objects="collar", place="the dog", link="with")),
        ("look", "like a wolf", Change(kind="modify", objects="the dog", result="that looks like a wolf")),
    ],
)
def test_predicates(verb: str, rest: str, expected: Change) -> None:
    assert predicate("the dog", verb, rest) == expected


def test_kinds_of_nouns() -> None:
    assert is_one_of("the old man", WEARERS) and is_one_of("him", WEARERS) and not is_one_of("the wall", WEARERS)
