"""The one validator, the errors, and which processor a configuration gives."""

import pytest

from maskedit.editors.core.errors import InputError, MaskeditError, ModelError
from maskedit.editors.parts.language import (
    WHOLE_PICTURE,
    LanguageError,
    LanguageProcessor,
    ParsedInstruction,
    ParseError,
    SubInstruction,
    make_language,
    validate,
)
from maskedit.editors.parts.language_options import LanguageConfig
from maskedit.editors.parts.language_rules import RuleLanguage

EDIT = SubInstruction(text="make the red cube blue", keyword="red cube", phrases=("red cube",))


def check(
    edits: tuple[SubInstruction, ...] = (EDIT,),
    before: str = "photo of a red cube",
    after: str = "photo of a blue cube",
) -> ParsedInstruction:
    return validate(edits, before, after, reply="the reply")


def test_a_good_answer_comes_back() -> None:
    assert check() == ParsedInstruction(
        edits=(EDIT,), input_caption="photo of a red cube", edited_caption="photo of a blue cube"
    )


def test_answers_are_brought_to_one_form() -> None:
    loose = SubInstruction(text=" make  the Red Cube blue", keyword="red cube", phrases=("The  Red Cube", "red cube"))
    parsed = check((loose,), " photo of  a red cube ")
    assert parsed.edits[0] == SubInstruction(text="make the Red Cube blue", keyword="Red Cube", phrases=("red cube",))
    assert parsed.input_caption == "photo of a red cube"


def test_the_whole_picture_has_no_phrase() -> None:
    edit = SubInstruction(text="make it night", keyword="night", phrases=(WHOLE_PICTURE,))
    assert check((edit,)).phrases == ()


def test_phrases_of_all_edits_come_without_repeats() -> None:
    other = SubInstruction(text="make the ball red", keyword="ball", phrases=("ball", "red cube"))
    assert check((EDIT, other)).phrases == ("red cube", "ball")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"edits": ()}, "at least one edit"),
        ({"edits": (SubInstruction(text=" ", keyword="a", phrases=("a",)),)}, "the words of each edit"),
        ({"edits": (SubInstruction(text="a", keyword="?", phrases=("a",)),)}, "a keyword for each edit"),
        ({"edits": (SubInstruction(text="paint cubes", keyword="cube", phrases=("a",)),)}, "a keyword that occurs"),
        ({"edits": (SubInstruction(text="a", keyword="a", phrases=()),)}, "what to segment"),
        ({"edits": (SubInstruction(text="a", keyword="a", phrases=("a", "..")),)}, "what to segment"),
        ({"before": "."}, "an input caption"),
        ({"after": ""}, "an edited caption"),
        ({"after": "Photo of a red  cube"}, "differs from the input caption"),
        ({"after": "photo of a ball instead of a cube"}, "without 'instead of'"),
    ],
)
def test_bad_answers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ParseError, match=message) as caught:
        check(**values)
    assert caught.value.reply == "the reply"


def test_the_error_is_one_short_line() -> None:
    error = ParseError("expected an edit", reply="a\nlong " * 200, advice="say it again")
    assert isinstance(error, InputError)
    assert "\n" not in str(error) and len(str(error)) < 250
    assert str(error).startswith("expected an edit, got 'a long a long") and str(error).endswith("...': say it again")
    assert error.reply == "a\nlong " * 200


def test_a_configuration_gives_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = make_language(LanguageConfig())
    assert isinstance(rules, RuleLanguage) and isinstance(rules, LanguageProcessor)
    with pytest.raises(ModelError, match="chat model no/such-model cannot be used"):
        make_language(LanguageConfig(provider="chat", model="no/such-model"), offline=True)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LanguageError, match="set the environment variable OPENAI_API_KEY"):
        make_language(LanguageConfig(provider="openai"))
    assert issubclass(LanguageError, MaskeditError)
