"""Requests that begin with what to do."""

import pytest

from maskedit.editors.parts.language_change import Change
from maskedit.editors.parts.language_requests import addition, dressing, gift, removal, replacement, resize


def same(changes: list[Change], *expected: Change) -> bool:
    def bare(change: Change) -> tuple[str, ...]:
        return (change.kind, change.objects, change.result, change.link, change.place)

    return [bare(c) for c in changes] == [bare(c) for c in expected]


@pytest.mark.parametrize(
    ("clause", "objects", "place"),
    [
        ("remove the cup", "the cup", ""),
        ("remove the cup from the table", "the cup", "the table"),
        ("remove the dog from the photo", "the dog", ""),
        ("take the hat off the man", "the hat", "the man"),
        ("take the hat off", "the hat", ""),
        ("get rid of the glasses and hat", "the glasses and hat", ""),
        ("remove the second cube from the left", "the second cube from the left", ""),
    ],
)
def test_removals(clause: str, objects: str, place: str) -> None:
    (change,) = removal(clause)
    assert (change.kind, change.objects, change.place) == ("remove", objects, place)


def test_additions() -> None:
    hat = Change(kind="add", objects="the cat", result="a hat", link="wearing")
    glasses = Change(kind="add", objects="the dog", result="glasses", link="wearing")
    assert same(addition("add a hat to the cat and glasses to the dog"), hat, glasses)
    assert same(addition("put the cat in a hat"), hat)
    ball = Change(kind="add", objects="the cube", result="a red ball", link="on top of")
    assert same(addition("place a red ball on top of the cube"), ball)
    assert same(addition("add a tree on the left"), Change(kind="add", objects="", result="a tree on the left"))
    assert same(addition("add a man in a suit to the street"),
                Change(kind="add", objects="the street", result="a man in a suit", link="with"))  # fmt: skip
    assert addition("add") == [] and addition("paint the wall red") == []


def test_gifts() -> None:
    hat = Change(kind="add", objects="the dog", result="a hat", link="wearing")
    scarf = Change(kind="add", objects="the cat", result="a scarf", link="wearing")
    assert same(gift("give the dog a hat and the cat a scarf"), hat, scarf)
    assert same(gift("give a hat to the dog"), hat)
    assert same(gift("give the door a red color"), Change(kind="modify", objects="the door", result="red"))
    assert same(gift("give him a beard"), Change(kind="add", objects="him", result="a beard", link="with"))
    long = Change(kind="add", objects="the man", result="long blond hair", link="with")
    assert same(gift("give the man long blond hair"), long)
    assert gift("give") == []


def test_replacements() -> None:
    cat = Change(kind="replace", objects="the dog", result="a cat")
    bench = Change(kind="replace", objects="the sofa", result="a bench")
    for clause in (
        "replace the dog with a cat",
        "swap the dog for a cat",
        "turn the dog into a cat",
        "substitute a cat for the dog",
        "exchange the dog by a cat",
    ):
        assert same(replacement(clause), cat)
    assert same(replacement("replace the dog with a cat and the sofa with a bench"), cat, bench)
    both = Change(kind="replace", objects="the dog and the fox", result="a cat and a bird")
    assert same(replacement("replace the dog and the fox with a cat and a bird"), both)
    red = Change(kind="modify", objects="the girl with the coat", result="red")
    assert same(replacement("change the color of the girl with the coat from blue to red"), red)
    assert same(replacement("change the man next to the car to a robot"),
                Change(kind="replace", objects="the man next to the car", result="a robot"))  # fmt: skip
    assert replacement("replace the dog") == [] and replacement("swap the cat and the dog") == []


@pytest.mark.parametrize(
    ("clause", "objects", "result"),
    [
        ("enlarge the cube by 20%", "the cube", "larger"),
        ("increase the size of the cube", "the cube", "larger"),
        ("scale down the cube", "the cube", "smaller"),
        ("shrink the cube a bit", "the cube", "smaller"),
        ("darken the sky", "the sky", "darker"),
        ("close the window", "the window", "closed"),
        ("turn on the lamp", "the lamp", "glowing"),
        ("set the car on fire", "the car", "on fire"),
    ],
)
def test_verbs_that_name_their_result(clause: str, objects: str, result: str) -> None:
    assert same(resize(clause), Change(kind="modify", objects=objects, result=result))


def test_dressing() -> None:
    gown = Change(kind="add", objects="the woman", result="a gown", link="wearing")
    assert same(dressing("dress the woman in a gown"), gown)
    cloth = Change(kind="add", objects="the table", result="a cloth", link="covered in")
    assert same(dressing("cover the table with a cloth"), cloth)
