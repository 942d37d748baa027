"""Requests to make something other than it is."""

import pytest

from maskedit.editors.parts.language_making import imagined, make_one, making


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("make the cube red", [("modify", "the cube", "red")]),
        ("make the cube red and the sphere blue", [("modify", "the cube", "red"), ("modify", "the sphere", "blue")]),
        ("make the cube and the sphere red", [("modify", "the cube and the sphere", "red")]),
        ("make the cube red and shiny", [("modify", "the cube", "red and shiny")]),
        ("make the horse a zebra", [("replace", "the horse", "a zebra")]),
        ("make the cubes spheres", [("replace", "the cubes", "spheres")]),
        ("make the house cosy", [("modify", "the house", "cosy")]),
        ("make her hair blonde", [("modify", "her hair", "blonde")]),
        ("make the man ride a horse", [("modify", "the man", "riding a horse")]),
        ("make the woman's face red", [("modify", "the woman's face", "red")]),
        ("make the car look old", [("modify", "the car", "old")]),
        ("make the walls look like they are made of brick", [("modify", "the walls", "brick")]),
        ("make the statue out of gold", [("modify", "the statue", "gold")]),
        ("make the hill covered in snow", [("modify", "the hill", "covered in snow")]),
        ("make the car disappear", [("remove", "the car", "")]),
        ("color the walls in light green", [("modify", "the walls", "light green")]),
        ("make the man in black older", [("modify", "the man in black", "older")]),
    ],
)
def test_results(clause: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(change.kind, change.objects, change.result) for change in making(clause)] == expected


@pytest.mark.parametrize("clause", ["make", "make the cube", "make the red cube", "make the cat on", "love the cat"])
def test_no_result_no_request(clause: str) -> None:
    assert making(clause) == []


def test_an_object_alone_is_no_piece() -> None:
    assert make_one("the cat", "make") is None
    assert make_one("this picture", "want") is None


@pytest.mark.parametrize(
    ("clause", "result"),
    [
        ("what if it were snowing", "snowing"),
        ("what would it look like in winter", "in winter"),
        ("as a mosaic", "as a mosaic"),
    ],
)
def test_the_whole_picture_is_imagined(clause: str, result: str) -> None:
    (change,) = imagined(clause)
    assert (change.objects, change.result) == ("it", result)
