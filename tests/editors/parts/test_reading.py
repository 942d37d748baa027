"""Reading several instructions: clauses, phrases for each picture, and a caption for each region."""

from collections.abc import Sequence

import pytest

from maskedit.editors import Captions, Instruction, ParsedInstruction, ParseError
from maskedit.editors.parts.language import SubInstruction
from maskedit.editors.parts.language_rules import RuleLanguage
from maskedit.editors.parts.reading import read_instructions

BLUE = Instruction(text="make the red cube blue")
GREEN = Instruction(text="make the ball green")
BOTH = Instruction(text="make the red cube blue and remove the ball")


class CountingLanguage:
    """The rules, counting what they are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.rules = RuleLanguage()

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        self.asked.append((instruction, description))
        return self.rules.parse(instruction, description)


class Painter:
    """Calls what it is to paint by the last word of the description, as a language model might."""

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        thing = (description or "photo of a thing").split()[-1]
        edit = SubInstruction(text=instruction, keyword="it", phrases=(thing,))
        return ParsedInstruction(edits=(edit,), input_caption=thing, edited_caption=f"blue {thing}")


def read(*instructions: Instruction, described: Sequence[str | None] = (None,)) -> tuple[Instruction, ...]:
    return read_instructions(instructions, RuleLanguage(), described, wants_phrases=True, wants_regions=True)[0]


def targets(instructions: Sequence[Instruction]) -> list[str]:
    return [each.captions[0].target for each in instructions]


def test_each_instruction_gets_its_own_captions_and_the_picture_those_of_all() -> None:
    language = CountingLanguage()
    planned, captions = read_instructions((BLUE, GREEN), language, wants_phrases=True, wants_regions=True)
    assert [each.phrases for each in planned] == [("red cube",), ("ball",)]
    assert targets(planned) == ["photo of a blue cube", "photo of a green ball"]
    joined = "photo of a blue cube, photo of a green ball"
    assert captions == (Captions(source="photo of a red cube, photo of a ball", target=joined),)
    assert language.asked == [(BLUE.text, None), (GREEN.text, None)]


def test_clauses_about_different_objects_become_instructions() -> None:
    """The region of what is removed follows a caption without it, and not that of the other object's new colour."""
    planned, captions = read_instructions((BOTH,), RuleLanguage(), wants_phrases=True, wants_regions=True)
    assert [(each.text, each.phrases) for each in planned] == [
        ("make the red cube blue", ("red cube",)),
        ("remove the ball", ("ball",)),
    ]
    assert targets(planned) == ["photo of a blue cube", "photo of an empty background"]
    assert captions == (Captions(source="photo of a red cube and a ball", target="photo of a blue cube"),)


def test_clauses_about_one_object_stay_one_instruction() -> None:
    for text in ("make the red cube blue and make it larger", "make the red cube blue and make it snow"):
        (whole,) = read(Instruction(text=text))
        assert (whole.text, whole.phrases, whole.captions) == (text, ("red cube",), ())


def test_a_single_instruction_has_no_captions_of_its_own() -> None:
    assert read(BLUE) == (Instruction(text=BLUE.text, phrases=("red cube",)),)


def test_instructions_about_the_same_object_share_captions() -> None:
    larger = Instruction(text="make the red cube larger")
    planned = read(BLUE, GREEN, larger)
    assert targets(planned) == ["photo of a larger blue cube", "photo of a green ball", "photo of a larger blue cube"]


def test_a_description_is_changed_for_each_region_by_itself() -> None:
    described = "Photo of a red cube and a ball on a table"
    planned, captions = read_instructions((BOTH,), RuleLanguage(), (described,), wants_phrases=True, wants_regions=True)
    assert targets(planned) == ["Photo of a blue cube and a ball on a table", "Photo of a red cube on a table"]
    assert captions == (Captions(source=described, target="Photo of a blue cube on a table"),)


def test_what_the_user_said_stays() -> None:
    own = Captions(source="a", target="b")
    given = Instruction(text=BOTH.text, phrases=("box",), captions=(own,))
    planned = read(given, GREEN)
    assert planned[0] == given
    assert planned[1].captions[0].target == "photo of a green ball"
    assert len(read(Instruction(text=BOTH.text, keyword="ball"))) == 1


def test_phrases_follow_the_description_of_each_picture() -> None:
    """Whatever shares the batch: the phrases of a picture are those it gets alone."""
    described = ("photo of a dog", "photo of a cat", "photo of a dog")
    paint = Instruction(text="paint it")
    planned, _ = read_instructions((paint,), Painter(), described, wants_phrases=True, wants_regions=True)
    assert planned[0].phrases == ("dog", "cat")
    assert [planned[0].phrases_in(row) for row in range(3)] == [("dog",), ("cat",), ("dog",)]
    alone, _ = read_instructions((paint,), Painter(), described[1:2], wants_phrases=True, wants_regions=True)
    assert alone == (Instruction(text="paint it", phrases=("cat",)),)


class Splitter:
    """Takes a text apart at "and", and next to the description of a blur does not, as a language model might."""

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        if description is None and "either" in instruction:
            raise ParseError("expected an object", reply=instruction)
        words = (description or "photo of a red car").split()
        texts = [instruction] if words[-1] == "blur" else instruction.split(" and ")
        # In a picture of "all", everything is called the same.
        phrases = [(words[-1],) if words[-1] == "all" else (text.split()[-1],) for text in texts]
        edits = tuple(SubInstruction(text=t, keyword="paint", phrases=p) for t, p in zip(texts, phrases, strict=True))
        return ParsedInstruction(edits=edits, input_caption="x", edited_caption=f"{description or 'x'} {texts[-1]}")


@pytest.mark.parametrize("text", ["paint car and paint sky", "paint either and paint sky"])
def test_how_a_text_is_taken_apart_follows_from_the_text_alone(text: str) -> None:
    def texts(*described: str) -> list[str]:
        planned, _ = read_instructions(
            (Instruction(text=text),), Splitter(), described, wants_phrases=True, wants_regions=True
        )
        return [each.text for each in planned]

    clear, blur = "photo of a street", "photo of a blur"
    assert texts(blur) == texts(clear) == texts(blur, clear)


def test_captions_of_regions_do_not_follow_other_pictures_of_the_batch() -> None:
    def captions(*described: str) -> list[Captions]:
        planned, _ = read_instructions(
            (Instruction(text="paint car"), Instruction(text="paint sky")),
            Splitter(),
            described,
            wants_phrases=True,
            wants_regions=True,
        )
        return [each.captions[0] for each in planned]

    # In the second picture both name the same thing.
    assert captions("photo of a street", "photo of all") == captions("photo of a street")
    assert captions("photo of all") != captions("photo of a street")


def test_each_description_is_read_once_and_the_text_alone_for_its_clauses() -> None:
    language = CountingLanguage()
    described = ("Photo of a red cube", "Photo of a red cube and a dog", "Photo of a red cube")
    planned, captions = read_instructions((BLUE,), language, described, wants_phrases=True, wants_regions=True)
    assert language.asked == [(BLUE.text, described[0]), (BLUE.text, described[1]), (BLUE.text, None)]
    assert planned[0].phrases_by_image == ()
    blue = "Photo of a blue cube"
    assert [each.target for each in captions] == [blue, f"{blue} and a dog", blue]


@pytest.mark.parametrize("phrases", [True, False])
def test_captions_for_all_alone(phrases: bool) -> None:
    planned, captions = read_instructions((BOTH, GREEN), RuleLanguage(), wants_phrases=phrases, wants_regions=False)
    assert [each.text for each in planned] == [BOTH.text, GREEN.text]
    assert [each.captions for each in planned] == [(), ()]
    assert planned[0].phrases == (("red cube", "ball") if phrases else None)
    assert captions[0].target == "photo of a blue cube, photo of a green ball"


def test_what_is_not_understood_is_an_error() -> None:
    with pytest.raises(ParseError, match="hello there"):
        read(BLUE, Instruction(text="hello there"))
