"""The rules as a whole: instructions in, edits and captions out, and an error for whatever else comes in."""

import random
import string

import pytest

from maskedit.editors.core.errors import InputError
from maskedit.editors.parts.language import REMEMBERED, ParseError, validate
from maskedit.editors.parts.language_clauses import ADDING, REMOVING, REPLACING, TURNING
from maskedit.editors.parts.language_rules import RuleLanguage
from maskedit.editors.parts.request import Instruction

CAPTIONS = {
    "make the red cube blue": ("red cube", "photo of a red cube", "photo of a blue cube"),
    "make the cube bigger": ("cube", "photo of a cube", "photo of a bigger cube"),
    "turn the cube into a sphere": ("cube", "photo of a cube", "photo of a sphere"),
    "make the large shiny red cube blue": (
        "large shiny red cube",
        "photo of a large shiny red cube",
        "photo of a large shiny blue cube",
    ),
    "turn all the cylinders gray": ("cylinders", "photo of cylinders", "photo of gray cylinders"),
    "add glasses to the boy": ("boy", "photo of a boy", "photo of a boy wearing glasses"),
    "remove the cat": ("cat", "photo of a cat", "photo of an empty background"),
    "remove the cup from the table": ("cup", "photo of a cup on a table", "photo of a table"),
    "take the hat off the man": ("hat", "photo of a man with a hat", "photo of a man"),
    "take off the man's glasses": ("man's glasses", "photo of a man's glasses", "photo of a man"),
    "turn him into a clown": ("man", "photo of a man", "photo of a clown"),
    "add a ball and a cone to the cube": ("cube", "photo of a cube", "photo of a cube with a ball and a cone"),
}


@pytest.fixture(scope="module")
def rules() -> RuleLanguage:
    return RuleLanguage()


@pytest.mark.parametrize("text", CAPTIONS)
def test_captions_without_a_description(text: str, rules: RuleLanguage) -> None:
    parsed = rules.parse(text)
    assert (*parsed.phrases, parsed.input_caption, parsed.edited_caption) == CAPTIONS[text]


def test_a_description_changes_in_its_object_only(rules: RuleLanguage) -> None:
    scene = "Photo of a small red cube, a large blue sphere and a green cylinder."
    parsed = rules.parse("make the red cube yellow and remove the sphere", scene)
    assert parsed.input_caption == scene.rstrip(".")
    assert parsed.edited_caption == "Photo of a small yellow cube and a green cylinder"


def test_an_object_that_was_not_described_is_named_in_both(rules: RuleLanguage) -> None:
    parsed = rules.parse("make the lamp red", "A cat on a sofa.")
    assert parsed.input_caption == "A cat on a sofa and a lamp"
    assert parsed.edited_caption == "A cat on a sofa and a red lamp"
    removed = rules.parse("remove the lamp", "A cat on a sofa.")
    assert removed.edited_caption == "A cat on a sofa"


def test_a_list_is_one_edit_and_each_request_is_its_own(rules: RuleLanguage) -> None:
    assert [e.phrases for e in rules.parse("remove the cat and the dog").edits] == [("cat", "dog")]
    edits = rules.parse("make the cube red and the sphere blue, then add a hat to the bear").edits
    assert [e.text for e in edits] == ["make the cube red", "make the sphere blue", "add a hat to the bear"]
    assert [e.keyword for e in edits] == ["cube", "sphere", "hat"]


def test_it_is_what_was_spoken_of(rules: RuleLanguage) -> None:
    parsed = rules.parse("turn the sphere into a cube and make it red")
    assert parsed.edits[1].text == "make the cube red" and parsed.phrases == ("sphere",)
    assert (parsed.input_caption, parsed.edited_caption) == ("photo of a sphere", "photo of a red cube")


@pytest.mark.parametrize(
    "text", ["make it a watercolor painting", "what if it were snowing", "add a hat", "make it night"]
)
def test_without_a_place_there_is_no_phrase(text: str, rules: RuleLanguage) -> None:
    parsed = rules.parse(text)
    assert parsed.phrases == () and len(parsed.edits) == 1
    assert parsed.input_caption != parsed.edited_caption


def test_the_same_question_is_answered_from_memory(rules: RuleLanguage) -> None:
    assert rules.parse("make the cube red") is rules.parse("make the cube red")
    assert rules.parse("make the cube red") is not rules.parse("make the cube red", "A cube.")


@pytest.mark.parametrize("text", ["hello", "???", "asdf", "12345", "make", "the cat", "replace the cube", "remove it"])
def test_what_is_no_request_is_refused(text: str, rules: RuleLanguage) -> None:
    with pytest.raises(ParseError, match="expected a request to edit") as caught:
        rules.parse(text)
    assert caught.value.reply == text and "make the red cube blue" in str(caught.value)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(text: str, rules: RuleLanguage) -> None:
    with pytest.raises(InputError, match="got an empty text"):
        rules.parse(text)


WORDS = (
    *REPLACING, *TURNING, *REMOVING, *ADDING,
    *"the a all of and , . ; then it her his red blue bigger wooden cube cubes man man's hat sky table on to into with "
    "from for next in front left that is should be want I you please give take off out get rid like look same as color "
    "one two photo instead no there where made 's - ' \" ( ? \u00e9 \u4e2d".split(),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_any_text_is_understood_or_refused(seed: int, rules: RuleLanguage) -> None:
    """Whatever is typed, the outcome is a valid answer or the one error."""
    chance = random.Random(seed)
    understood = 0
    for _ in range(400):
        text = " ".join(chance.choices(WORDS, k=chance.randint(1, 12)))
        if chance.random() < 0.1:
            text = "".join(chance.choices(string.printable, k=chance.randint(1, 40)))
        scene = " ".join(chance.choices(WORDS, k=8)) if chance.random() < 0.3 else None
        try:
            parsed = rules.parse(text, scene)
        except ParseError:
            continue
        except InputError:
            assert not text.strip()
            continue
        understood += 1
        again = validate(
            [e for e in parsed.edits if e.phrases], parsed.input_caption, parsed.edited_caption, reply=text
        ) if all(e.phrases for e in parsed.edits) else parsed  # fmt: skip
        assert again == parsed
        for edit in parsed.edits:
            Instruction(text=edit.text, keyword=edit.keyword)
    assert understood > 20


@pytest.mark.parametrize("text", ["make me a sandwich", "give me a break", "let me think", "I love this picture"])
def test_small_talk_is_refused(text: str, rules: RuleLanguage) -> None:
    with pytest.raises(ParseError):
        rules.parse(text)


def test_the_one_that_was_meant(rules: RuleLanguage) -> None:
    assert rules.parse("I want a blue car instead of the red one").phrases == ("red car",)
    assert rules.parse("turn one of the cubes into a sphere").phrases == ("cube",)
    assert rules.parse("change the dress to a red one").edited_caption == "photo of a red dress"


@pytest.mark.parametrize(
    "text",
    [
        "make the dog red but leave the cat alone",
        "make everything except the dog blue",
        "make everything but the dog blue",
        "paint all cubes but the left one red",
        "make the dog red but not the cat",
        "turn the dogs into wolves, leave the cat as it is",
        "make the sky pink and don\u2019t touch the tree",
    ],
)
@pytest.mark.parametrize("scene", [None, "Photo of a dog and a cat"])
def test_what_is_to_be_spared_is_refused(text: str, scene: str | None, rules: RuleLanguage) -> None:
    with pytest.raises(ParseError, match="expected"):
        rules.parse(text, scene)


def test_a_but_between_requests_spares_nothing(rules: RuleLanguage) -> None:
    assert rules.parse("make the dog red but remove the cat").phrases == ("dog", "cat")
    assert rules.parse("make the dog red, but make the cat blue").phrases == ("dog", "cat")


def test_a_removed_object_takes_its_description_along(rules: RuleLanguage) -> None:
    parsed = rules.parse("remove the man with the red hat")
    assert parsed.phrases == ("man with the red hat",)
    assert parsed.edited_caption == "photo of an empty background"
    described = rules.parse("remove the man with the red hat", "A dog next to a man with a red hat on a beach")
    assert described.edited_caption == "A dog on a beach"
    assert rules.parse("remove the cup on the table").edited_caption == "photo of the table"


def test_one_of_several_is_not_all_of_them(rules: RuleLanguage) -> None:
    scene = "Photo of two dogs on a lawn"
    assert (
        rules.parse("turn the left dog into a wolf", scene).edited_caption == "Photo of two dogs and a wolf on a lawn"
    )
    assert rules.parse("remove the left dog", scene).edited_caption == "Photo of a dog on a lawn"
    assert rules.parse("remove the left dog", "Three big dogs").edited_caption == "Two big dogs"
    assert rules.parse("remove the left dog", "Dogs on a lawn").edited_caption == "The other dogs on a lawn"
    assert rules.parse("turn the dogs into wolves", scene).edited_caption == "Photo of wolves on a lawn"


def test_the_memory_is_bounded(rules: RuleLanguage) -> None:
    first = rules.parse("make cube a red")
    for number in range(REMEMBERED):
        rules.parse(f"make cube {number} red")
    assert rules.parse("make cube a red") is not first
