"""What a language model is asked, and how its answers are read."""

import json
import random
import re

import pytest

from maskedit.editors.parts.language import ParsedInstruction, ParseError
from maskedit.editors.parts.language_prompt import (
    SCHEMA,
    Message,
    ask,
    build_messages,
    format_reply,
    parse_fields,
    read_reply,
)

TEXT = "make the red cube blue"
GOOD = format_reply(["red cube"], "Photo of a red cube", "Photo of a blue cube")
WORDS = (
    "Photo of a small red cube, the old man's hat; two dogs: 3 birds (flying) in front of it - no 12.5 m tree".split()
)


def test_both_variants_ask_for_their_form() -> None:
    plain, described = build_messages(TEXT, None), build_messages(TEXT, "Photo of a cube.")
    assert [m["role"] for m in plain] == ["system", "user"]
    assert plain[1]["content"] == f"Instruction: {TEXT}"
    assert described[1]["content"] == f"Instruction: {TEXT}\nDescription: Photo of a cube."
    assert "instead of" in described[0]["content"] and "instead of" not in plain[0]["content"]
    structured = build_messages(TEXT, None, structured=True)[0]["content"]
    assert '"edits"' in structured and "Editing prompt2" not in structured


@pytest.mark.parametrize("description", [None, "Photo of a cube."])
@pytest.mark.parametrize("structured", [False, True])
def test_the_worked_examples_follow_their_own_rules(description: str | None, structured: bool) -> None:
    system = build_messages(TEXT, description, structured=structured)[0]["content"]
    examples = re.findall(r"Instruction: (.+)\n(?:Description: (.+)\n)?Answer: (.+)", system)
    assert len(examples) == 3
    for instruction, scene, answer in examples:
        parsed = read_reply(answer, instruction)
        assert parsed.phrases and bool(scene) == bool(description)
        if scene:
            assert parsed.input_caption == scene.rstrip(".")


@pytest.mark.parametrize("seed", range(5))
def test_reading_undoes_writing(seed: int) -> None:
    """I9: whatever stands between the fields, they come back as they were."""
    chance = random.Random(seed)

    def caption() -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(1, 12))).strip(".,;")

    for _ in range(100):
        phrases = tuple(
            " ".join(chance.choices("red left cube man's tall hat on 2".split(), k=3))
            for _ in range(chance.randint(1, 4))
        )
        before, after = caption(), caption()
        assert parse_fields(format_reply(phrases, before, after)) == (phrases, before, after)
        one, two = (chance.choice([". ", ", ", "; ", "\n", ".\n", " ;\n"]) for _ in range(2))
        quote = chance.choice(["", '"', "'"])
        label = chance.choice([str.upper, str.lower, str.title])
        end = chance.choice(["", ".", ".  "])
        gap = chance.choice(["", " ", "  "])
        joined = chance.choice([", ", " and ", ", and "]).join(phrases)
        reply = (
            f"{label('Segmentation prompt')}:{gap}{quote}{joined}{quote}{one}{label('editing prompt')}{gap}1: "
            f"{quote}{before}{quote}{two}{label('editing prompt')}{gap}2:{quote}{after}{quote}{end}"
        )
        assert parse_fields(reply) == (phrases, before, after), reply


def test_the_papers_own_reply_is_read() -> None:
    reply = (
        "Segmentation prompt: Dog. Editing prompt 1: \u201cPhoto of a dog\u201d. "
        "Editing prompt2: \u201cPhoto of a cat\u201d."
    )
    assert parse_fields(reply) == (("Dog",), "Photo of a dog", "Photo of a cat")


def test_talk_around_the_answer_is_left_out() -> None:
    reply = f"Sure! **Here you are**:\n{GOOD} I hope this helps.\nBye."
    assert parse_fields(reply) == (("red cube",), "Photo of a red cube", "Photo of a blue cube")
    assert parse_fields("I cannot do that.") is None


@pytest.mark.parametrize(
    "talk", ["", ".", " I hope this helps!", ", is that well?", ". Do you like it?", ' - a "pear".']
)
@pytest.mark.parametrize("quotes", ['""', "''", "\u201c\u201d"])
def test_a_caption_ends_with_its_quotation(quotes: str, talk: str) -> None:
    for caption in ("photo of a pear", "the dogs' tails", "a dog's tail"):
        reply = f'Segmentation prompt: a. Editing prompt 1: "b". Editing prompt2: {quotes[0]}{caption}{quotes[1]}{talk}'
        assert parse_fields(reply) == (("a",), "b", caption)


def test_a_reply_becomes_a_parsed_instruction() -> None:
    parsed = read_reply(GOOD, TEXT)
    assert parsed.edits[0].text == TEXT and parsed.edits[0].keyword == "red cube"
    two = read_reply(format_reply(["cube", "ball"], "a", "b"), "make the cube red, and remove the ball")
    assert [(e.text, e.phrases) for e in two.edits] == [
        ("make the cube red", ("cube",)),
        ("remove the ball", ("ball",)),
    ]
    unclear = read_reply(format_reply(["cube", "cone"], "a", "b"), "make the cube red, and remove the ball")
    assert [e.phrases for e in unclear.edits] == [("cube", "cone")]


def answer(**fields: object) -> str:
    edit = {"text": TEXT, "keyword": "cube", "phrases": ["red cube"]}
    return json.dumps({"edits": [edit], "input_caption": "a red cube.", "edited_caption": "a blue cube", **fields})


def test_json_is_read_wherever_it_stands() -> None:
    assert set(json.loads(answer())) == set(SCHEMA["required"])
    for reply in (answer(), f"```json\n{answer()}\n```", f"Here: {answer()} Done."):
        parsed = read_reply(reply, TEXT)
        assert parsed.phrases == ("red cube",) and parsed.input_caption == "a red cube"


@pytest.mark.parametrize(
    "reply",
    ["", "no", "{", "{}", "[]", "null", answer(edits=[]), answer(edits=[{}]), answer(edits="red cube"),
     answer(edits=[{"text": "a", "keyword": "a", "phrases": "a"}]), answer(input_caption=None),
     answer(edited_caption=""),
     "[" * 5000, '{"a":' * 5000, format_reply([], "a", "b"), format_reply(["cube"], "a", "a")],
)  # fmt: skip
def test_other_replies_are_refused(reply: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_reply(reply, TEXT)
    assert caught.value.reply == reply and "\n" not in str(caught.value)


class Conversation:
    """Answers one after the other, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[list[Message]] = []

    def complete(self, messages: list[Message]) -> str:
        self.asked.append(messages)
        return self.answers.pop(0)


def test_a_good_answer_is_asked_for_once() -> None:
    talk = Conversation(GOOD)
    assert isinstance(ask(talk.complete, build_messages(TEXT, None), TEXT), ParsedInstruction)
    assert len(talk.asked) == 1


def test_a_bad_answer_is_asked_for_again_with_its_fault() -> None:
    talk = Conversation("Red cube!", GOOD)
    ask(talk.complete, build_messages(TEXT, None), TEXT)
    assert [m["role"] for m in talk.asked[1]] == ["system", "user", "assistant", "user"]
    assert talk.asked[1][2]["content"] == "Red cube!"
    assert "expected the form Segmentation prompt" in talk.asked[1][3]["content"]


def test_two_bad_answers_are_an_error() -> None:
    talk = Conversation("", "Second try")
    with pytest.raises(ParseError) as caught:
        ask(talk.complete, build_messages(TEXT, None, structured=True), TEXT)
    assert caught.value.reply == "Second try" and talk.asked[1][2]["content"] == "(nothing)"
    assert '"edits"' in talk.asked[1][3]["content"]
