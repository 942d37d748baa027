"""Which words of an instruction name its object, by rule alone."""

import pytest

from maskedit.editors import choose_keyword

EXPECTED = {
    "make the red cube blue": "red cube",
    "Make the sky dark": "sky",
    "turn him into a clown": "him",
    "turn the bear into a grizzly bear": "bear",
    "add a hat to the bear": "hat",
    "add fireworks to the sky": "fireworks",
    "give her a red hat": "red hat",
    "give it wings": "wings",
    "put a crown on the dog's head": "crown",
    "put on a hat": "hat",
    "take the hat off": "hat",
    "remove the hat from the man": "hat",
    "remove it": "it",
    "please remove all the cubes": "cubes",
    "delete the small blue sphere behind the red cube": "small blue sphere",
    "remove the cube that is red": "cube",
    "Replace the mountain with a city skyline.": "mountain",
    "swap sunflowers with roses": "sunflowers",
    "make the man's hair blue": "man's hair",
    "make the large cube small": "large cube",
    "make the cube much bigger": "cube",
    "make the dark car bright red": "dark car",
    "paint the wall green": "wall",
    "change the color of the cube to red": "cube",
    "make the colour of the tall cylinder yellow": "tall cylinder",
    "have the cat wear sunglasses": "cat",
    "make it look like a Van Gogh": "Van Gogh",
    "what would it look like in winter": "winter",
    "as if it were winter": "winter",
    "turn the sphere into a cube and make it red": "sphere",
    "color the second cube from the left green": "second cube",
}


@pytest.mark.parametrize("text", EXPECTED)
def test_the_object_is_found(text: str) -> None:
    assert choose_keyword(text) == EXPECTED[text]


@pytest.mark.parametrize(
    "text", [*EXPECTED, "make", "a", "?!", "to the", "2 cubes, red", "mach's größer", "rouge  le cube"]
)
def test_it_is_always_a_piece_of_the_text(text: str) -> None:
    keyword = choose_keyword(text)
    assert keyword
    assert keyword in text
