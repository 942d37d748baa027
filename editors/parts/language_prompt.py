"""What a language model is asked: the task, three worked examples, the form of the answer; and how answers are read.

InstructEdit (arXiv 2305.18047), section 3.2 and appendix D.1. The answer has the paper's form,
`Segmentation prompt: <phrases>. Editing prompt 1: "<before>". Editing prompt2: "<after>".`, or, where a server can be
held to a schema, JSON with the same fields and the words of each edit.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .keywords import choose_keyword
from .language import WHOLE_PICTURE, ParsedInstruction, ParseError, SubInstruction, validate
from .language_clauses import split_clauses

Message: TypeAlias = dict[str, str]
"""`role` and `content`, as chat templates and servers take them."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "edits": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "keyword": {"type": "string"},
                    "phrases": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["text", "keyword", "phrases"],
                "additionalProperties": False,
            },
        },
        "input_caption": {"type": "string"},
        "edited_caption": {"type": "string"},
    },
    "required": ["edits", "input_caption", "edited_caption"],
    "additionalProperties": False,
}
"""JSON schema of an answer."""

_TASK = f"""You prepare picture edits. A user says how a picture should change. A segmentation model will look for the
objects you name and mark where the picture may change; an image model will be given one caption of the picture before
the edit and one of the picture after it. Answer with exactly three things:
1. The phrases to segment, separated by commas. Keep a noun together with its adjectives and the words that locate it
(left red cube). When something is replaced or altered, name only that object. When something is added, name the object
that carries it. When something is removed, name only what is removed, never what it stands on. When all of the picture
changes, write: {WHOLE_PICTURE}.
2. A short caption of the picture before the edit.
3. The same caption after the edit, different in nothing but the edited objects."""
_DESCRIBED = """The user also gives a description of the picture. Build both captions from it. Never write "instead of"
in the second caption. A long or repetitive description may be shortened, but no object it names may be left out."""
_FORM = 'Segmentation prompt: <phrases>. Editing prompt 1: "<before>". Editing prompt2: "<after>".'
_JSON_FORM = """Answer in JSON: "edits" (one entry per edit, with "text": the words of this edit alone, "keyword": words
of that text that name the object to edit or to add, "phrases": what to segment), "input_caption", "edited_caption"."""

_Example: TypeAlias = tuple[str, str, tuple[str, ...], str, str, str, str, str]
# Instruction, keyword, phrases, captions before and after; description, captions with it.
_EXAMPLES: tuple[_Example, ...] = (
    (
        "swap the apple for a pear",
        "apple",
        ("apple",),
        "photo of an apple",
        "photo of a pear",
        "Photo of an apple beside a blue jug.",
        "Photo of an apple beside a blue jug",
        "Photo of a pear beside a blue jug",
    ),
    (
        "put a straw hat on the old fisherman",
        "straw hat",
        ("old fisherman",),
        "photo of an old fisherman",
        "photo of an old fisherman wearing a straw hat",
        "Painting of an old fisherman in a small boat.",
        "Painting of an old fisherman in a small boat",
        "Painting of an old fisherman wearing a straw hat in a small boat",
    ),
    (
        "get rid of the cup and the spoon on the bench",
        "cup",
        ("cup", "spoon"),
        "photo of a cup and a spoon on a bench",
        "photo of a bench",
        "Photo of a cup, a spoon and a newspaper on a bench.",
        "Photo of a cup, a spoon and a newspaper on a bench",
        "Photo of a newspaper on a bench",
    ),
)


def build_messages(instruction: str, description: str | None, *, structured: bool = False) -> list[Message]:
    """The conversation that asks for one instruction: the task with its examples, the instruction, the description.

    Args:
        instruction: what the user asks for.
        description: a caption of the picture; None changes task and examples with it.
        structured: ask for JSON rather than for the paper's form.
    """
    parts = [_TASK, *([_DESCRIBED] if description else []), _JSON_FORM if structured else f"Form: {_FORM}"]
    for text, keyword, phrases, before, after, scene, scene_before, scene_after in _EXAMPLES:
        if description:
            before, after = scene_before, scene_after  # noqa: PLW2901
        reply = format_reply(phrases, before, after)
        if structured:
            edit = {"text": text, "keyword": keyword, "phrases": list(phrases)}
            reply = json.dumps({"edits": [edit], "input_caption": before, "edited_caption": after})
        asked = f"Instruction: {text}" + (f"\nDescription: {scene}" if description else "")
        parts.append(f"Example.\n{asked}\nAnswer: {reply}")
    user = f"Instruction: {instruction}" + (f"\nDescription: {description}" if description else "")
    return [{"role": "system", "content": "\n\n".join(parts)}, {"role": "user", "content": user}]


def format_reply(phrases: Sequence[str], input_caption: str, edited_caption: str) -> str:
    """An answer in the paper's form; `parse_fields` undoes it."""
    return (
        f'Segmentation prompt: {", ".join(phrases)}. Editing prompt 1: "{input_caption}". '
        f'Editing prompt2: "{edited_caption}".'
    )


_FIELDS = re.compile(
    r"segmentation\s*prompt\s*:(?P<phrases>.*?)[\s.,;]*editing\s*prompt\s*1\s*:(?P<before>.*?)[\s.,;]*"
    r"editing\s*prompt\s*2\s*:(?P<after>.*)",
    re.I | re.S,
)
_PAIRS = {'"': '"', "'": "'", "“": "”", "`": "`"}
_CLOSINGS = {opening: re.compile(rf"{closing}(?=[\s.,;!]|$)") for opening, closing in _PAIRS.items()}
# After the apostrophe of "the dogs' tails" the quotation goes on to another one.
_CLOSINGS["'"] = re.compile(r"'(?=[.,;!]|$|\s(?!.*'(?:[\s.,;!]|$)))")
"""Where a quotation ends, by how it began; a quote inside a word ends nothing."""


def parse_fields(reply: str) -> tuple[tuple[str, ...], str, str] | None:
    """Phrases and captions of an answer in the paper's form; None where it has another.

    Differs from the paper: its greedy patterns leave quotes and periods inside the fields.
    """
    found = _FIELDS.search(reply.replace("**", ""))
    if found is None:
        return None
    after = found["after"].strip()
    # What a talkative model says after its answer is no part of the caption.
    after = after.splitlines()[0] if after else ""
    if after[:1] in _CLOSINGS and (closing := _CLOSINGS[after[0]].search(after, 1)):
        after = after[: closing.end()]
    items = re.split(r",|\s+and\s+", _bare(found["phrases"]))
    return tuple(item for raw in items if (item := _bare(raw))), _bare(found["before"]), _bare(after)


def _bare(field: str) -> str:
    """A field without matching quotes and without one period at its end."""
    field = field.strip().strip(",;").strip()
    inner = field.removesuffix(".").strip()
    if len(inner) > 1 and _PAIRS.get(inner[0]) == inner[-1]:
        return inner[1:-1].strip().removesuffix(".").strip()
    return inner


def read_reply(reply: str, instruction: str) -> ParsedInstruction:
    """Understand an answer, in JSON or in the paper's form.

    Raises:
        ParseError: if it has neither form, or does not pass `validate`.
    """
    advice = "try again, another model, or the provider 'rules'"
    start = reply.find("{")
    if start >= 0 and _FIELDS.search(reply) is None:
        try:
            answer = json.JSONDecoder().raw_decode(reply[start:])[0]
            edits = [
                SubInstruction(text=_text(e["text"]), keyword=_text(e["keyword"]), phrases=_texts(e["phrases"]))
                for e in answer["edits"]
            ]
            before, after = _text(answer["input_caption"]), _text(answer["edited_caption"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ParseError("expected the fields of the JSON schema", reply=reply, advice=advice) from error
        return validate(edits, _bare(before), _bare(after), reply=reply, advice=advice)
    fields = parse_fields(reply)
    if fields is None:
        raise ParseError(f"expected the form {_FORM}", reply=reply, advice=advice)
    phrases, before, after = fields
    return validate(_assign(phrases, instruction), before, after, reply=reply, advice=advice)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("expected a list of texts")
    return tuple(_text(item) for item in value)


def _assign(phrases: tuple[str, ...], instruction: str) -> list[SubInstruction]:
    """One edit for each request of the instruction, if it is plain which phrase belongs to which; else one for all."""
    clauses = split_clauses(instruction)
    shares: list[list[str]] = [[] for _ in clauses]
    for phrase in phrases:
        homes = [i for i, clause in enumerate(clauses) if phrase.casefold() in clause.casefold()]
        if len(homes) == 1:
            shares[homes[0]].append(phrase)
    if len(clauses) > 1 and all(shares) and sum(map(len, shares)) == len(phrases):
        pairs = list(zip(clauses, shares, strict=True))
        return [SubInstruction(text=c, keyword=choose_keyword(c), phrases=tuple(s)) for c, s in pairs]
    text = " ".join(instruction.split())
    return [SubInstruction(text=text, keyword=choose_keyword(text), phrases=phrases)]


def ask(complete: Callable[[list[Message]], str], messages: list[Message], instruction: str) -> ParsedInstruction:
    """Ask a language model, and once more where its answer cannot be read.

    Args:
        complete: gives the model's answer to a conversation.
        messages: the conversation.
        instruction: what the user asked for.

    Raises:
        ParseError: if the second answer cannot be read either; it carries that answer.
    """
    reply = complete(messages)
    try:
        return read_reply(reply, instruction)
    except ParseError as error:
        problem = error.problem
    structured = _JSON_FORM in messages[0]["content"]
    reminder = f"This answer cannot be used: {problem}. Answer again, with nothing else, in this form. " + (
        _JSON_FORM if structured else _FORM
    )
    again = [{"role": "assistant", "content": reply or "(nothing)"}, {"role": "user", "content": reminder}]
    return read_reply(complete([*messages, *again]), instruction)
