"""Captions in which only the words of the edited object change."""

import pytest

from maskedit.editors.parts.language_captions import describe, drop, ensure, exchange, extend, find, modify, restyle
from maskedit.editors.parts.language_phrases import Noun, parse_noun

SCENE = "Photo of a small red cube, a large blue sphere and a green cylinder"
SOFA = "Photo of a cat sitting on a sofa next to a dog"


def noun(text: str) -> Noun:
    found = parse_noun(text)
    assert found is not None
    return found


def test_objects_are_described() -> None:
    assert describe([noun("red cube")]) == "photo of a red cube"
    assert describe([noun("cubes"), noun("old man"), noun("sky")]) == "photo of cubes, an old man and the sky"
    assert describe([noun("cube"), noun("cube")]) == "photo of a cube"
    assert describe([]) == "photo"


@pytest.mark.parametrize(
    ("text", "words"),
    [("red cube", "a small red cube"), ("ball", "a large blue sphere"), ("green thing", "a green cylinder")],
)
def test_an_object_is_found(text: str, words: str) -> None:
    span = find(SCENE, noun(text))
    assert span is not None and SCENE[span.start : span.end] == words


def test_the_best_of_several_is_found() -> None:
    caption = "a red cube, a blue cube on the left and a cube"
    blue, plain = find(caption, noun("blue cube")), find(caption, noun("cube on the left"))
    assert blue == plain and blue is not None and caption[blue.start : blue.end] == "a blue cube"
    assert find(SCENE, noun("cat")) is None and find(SCENE, noun("yellow thing")) is None


@pytest.mark.parametrize(
    ("caption", "object_", "quality", "expected"),
    [
        (SCENE, "red cube", "yellow", "Photo of a small yellow cube, a large blue sphere and a green cylinder"),
        (SOFA, "cat", "orange", "Photo of an orange cat sitting on a sofa next to a dog"),
        ("A red ball", "ball", "orange", "An orange ball"),
        ("Hills under a clear sky", "sky", "pink", "Hills under a clear pink sky"),
        ("Hills under the sky", "hills", "green", "Green hills under the sky"),
        ("a woman in a park", "woman", "smiling", "a smiling woman in a park"),
        ("a man in a park", "man", "riding a horse", "a man riding a horse in a park"),
        ("dogs", "dogs", "that looks like wolves", "dogs that look like wolves"),
    ],
)
def test_qualities(caption: str, object_: str, quality: str, expected: str) -> None:
    assert modify(caption, noun(object_), quality) == expected


@pytest.mark.parametrize(
    ("caption", "object_", "result", "expected"),
    [
        (SOFA, "dog", "an owl", "Photo of a cat sitting on a sofa next to an owl"),
        ("A cat looking out", "cat", "an owl", "An owl looking out"),
        ("my cat", "cat", "a dog", "my dog"),
        ("a thing that can roll", "thing that can roll", "a cube", "a cube"),
        ("a cat and birds", "birds", "a dog", "a cat and a dog"),
        ("a man's hat", "man's hat", "a cap", "a man's cap"),
    ],
)
def test_replacements(caption: str, object_: str, result: str, expected: str) -> None:
    assert exchange(caption, noun(object_), result) == expected


@pytest.mark.parametrize(
    ("caption", "object_", "expected"),
    [
        (SCENE, "red cube", "Photo of a large blue sphere and a green cylinder"),
        (SCENE, "sphere", "Photo of a small red cube and a green cylinder"),
        (SCENE, "cylinder", "Photo of a small red cube and a large blue sphere"),
        (SOFA, "dog", "Photo of a cat sitting on a sofa"),
        (SOFA, "cat", "Photo of a sofa next to a dog"),
        (SOFA, "sofa", "Photo of a cat next to a dog"),
        ("A boat on a quiet lake", "boat", "A quiet lake"),
        ("A man wearing a hat on a street", "hat", "A man on a street"),
        ("photo of a cube on the left", "cube on the left", "photo of an empty background"),
        ("A cube", "cube", "An empty background"),
        ("A bride and a groom in front of a church", "groom", "A bride in front of a church"),
    ],
)
def test_removals(caption: str, object_: str, expected: str) -> None:
    assert drop(caption, noun(object_)) == expected


@pytest.mark.parametrize(
    ("object_", "thing", "link", "expected"),
    [
        ("cat", "a hat", "wearing", "Photo of a cat wearing a hat sitting on a sofa next to a dog"),
        ("dog", "a ball", "next to", "Photo of a cat sitting on a sofa next to a dog with a ball next to it"),
        ("sofa", "cushions", "with", "Photo of a cat sitting on a sofa with cushions next to a dog"),
    ],
)
def test_additions(object_: str, thing: str, link: str, expected: str) -> None:
    assert extend(SOFA, noun(object_), thing, link) == expected


def test_what_locates_an_object_stays_with_it() -> None:
    girl = noun("girl with the red coat")
    assert extend(describe([girl]), girl, "a scarf", "wearing") == "photo of a girl with the red coat wearing a scarf"


def test_missing_objects_are_named() -> None:
    assert ensure(SOFA, noun("dog")) == SOFA
    assert ensure(SOFA, noun("red lamp")) == f"{SOFA} and a red lamp"
    assert ensure("A woman in a park", noun("woman's hair")) == "A woman with hair in a park"


def test_whole_pictures() -> None:
    assert restyle("photo", "a watercolor painting", described=False) == "watercolor painting"
    assert restyle("A farm", "that looks like an oil painting", described=True) == "An oil painting of a farm"
    assert restyle("Photo of a farm", "a sketch", described=True) == "A sketch of a farm"
    assert restyle("photo", "darker", described=False) == "darker photo"
    assert restyle("A farm", "snowing", described=True) == "A farm, snowing"
