"""The language processor that needs nothing: rules of English grammar, the same answer every time.

It knows the wordings in which people ask to replace, add, remove, recolour, resize and change things, several in one
sentence too. What it does not understand is an error; it never guesses at text without a request in it.

Conventions: several objects under one verb are one edit with several phrases; a request about all of the picture, or
an addition that does not say to what, has no phrase; `it` is what the request before spoke of.
"""

import re
from dataclasses import replace

from ..core.caching import Remembered
from .keywords import choose_keyword
from .language import REMEMBERED, WHOLE_PICTURE, ParsedInstruction, ParseError, SubInstruction, require_text, validate
from .language_captions import describe, drop, ensure, exchange, extend, modify, restyle
from .language_change import Change, objects_of
from .language_clauses import QUOTES, split_clauses
from .language_grammar import parse_clause
from .language_phrases import Noun, is_all_quality, parse_list, parse_noun
from .language_words import PICTURES, words_of

_PEOPLE = {"him": "man", "he": "man", "her": "woman", "she": "woman", "them": "people", "they": "people"}
_BACK = frozenset("it this that one ones them these those him her he she they everything".split())
_SPARED = re.compile(
    r"\bexcept(?:ing)?\b|\b(?:apart|aside) from\b|\b(?:all|every\w*|any\w*) (?:\w+ )?but\b|"
    r"\bbut (?:not|never|without)\b|"
    r"\b(?:leav(?:e|ing)|keep(?:ing)?) .*\b(?:alone|as (?:is|it is|it was|they are|they were)|"
    r"unchanged|untouched|intact|unedited)\b|\b(?:do not|don't) (?:touch|change|alter|edit)\b",
    re.I,
)
"""Words that take something out of a request: all of them would be read as part of its objects."""
_ADVICE = (
    "say what to do to what, e.g. 'make the red cube blue', 'replace the dog with a cat', 'add a hat to the bear' or "
    "'remove the cup', or use another language provider"
)


class RuleLanguage:
    """Reads instructions by rule; see the module."""

    def __init__(self) -> None:
        self._answers = Remembered[ParsedInstruction](REMEMBERED)

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        """See `LanguageProcessor.parse`."""
        return self._answers.get((instruction, description), lambda: _parse(instruction, description))


class _Reading:
    """What has been understood of a text so far: edits, and the captions as they stand."""

    def __init__(self, description: str | None) -> None:
        self.described = description is not None
        self.before = (description or "").strip().rstrip(".").strip()
        self.steps: list[tuple[Change, tuple[Noun, ...]]] = []
        self.edits: list[SubInstruction] = []
        self.last: tuple[tuple[Noun, ...], tuple[str, ...]] = ((), ())
        """What `it` would mean: the things as they are now, and what to segment for them."""

    def add(self, change: Change) -> bool:
        """Take in one change; False where its object cannot be read."""
        if _is_contrary(change.objects) or _is_contrary(change.result):
            return False
        text, objects = change.text, objects_of(change.objects)
        phrases = tuple(noun.phrase for noun in objects)
        back = change.objects.casefold() in _BACK
        if back and self.last[0]:
            objects, phrases = self.last
            named = f"the {objects[0].core}"
            text = re.sub(rf"\b{re.escape(change.objects)}\b", named, text, count=1, flags=re.I)
        elif change.objects.casefold() in _PEOPLE:
            objects = (Noun(head=_PEOPLE[change.objects.casefold()]),)
            phrases = (objects[0].phrase,)
        elif back or _is_picture(change.objects):
            objects, phrases = (), ()
        elif change.objects and not objects:
            return False
        if change.kind == "remove" and not objects:
            return False
        self.steps.append((change, objects))
        new = parse_list(change.result) if change.kind in {"add", "replace"} else objects
        if change.kind in {"add", "replace"} and not new:
            return False
        self.last = (new, phrases)
        keyword = _keyword(text, change, objects, new)
        self.edits.append(SubInstruction(text=text, keyword=keyword, phrases=phrases or (WHOLE_PICTURE,)))
        return True

    def captions(self) -> tuple[str, str]:
        """The captions before and after."""
        before = self.before
        if not self.described:
            before = self._invented()
        else:
            named: set[str] = set()
            for change, objects in self.steps:
                for noun in objects:
                    # What an earlier edit made need not be in the picture before.
                    if noun.phrase not in named:
                        before = ensure(before, noun)
                named |= {n.phrase for n in parse_list(change.result)}
        after = before
        for change, objects in self.steps:
            after = _apply(after, change, objects, described=self.described)
        return before, after or "an empty background"

    def _invented(self) -> str:
        nouns: list[Noun] = []
        made: set[str] = set()
        for change, objects in self.steps:
            for noun in objects:
                if noun.phrase not in made and noun not in nouns:
                    place = parse_noun(change.place) if change.place else None
                    tail = f"{change.link} {place.caption}" if place and change.link != "with" else ""
                    if place and change.link == "with":
                        nouns.append(replace(place, after=f"{place.after} with {noun.caption}".strip()))
                    else:
                        nouns.append(replace(noun, after=f"{noun.after} {tail}".strip()))
            made |= {n.phrase for n in parse_list(change.result)} if change.kind in {"add", "replace"} else set()
        return describe(nouns)


def _apply(caption: str, change: Change, objects: tuple[Noun, ...], *, described: bool) -> str:
    if not objects and change.kind == "add":
        thing = " and ".join(noun.caption for noun in parse_list(change.result))
        return f"{caption} with {thing}" if described or caption != "photo" else f"photo of {thing}"
    if not objects:
        return restyle(caption, change.result, described=described)
    for noun in objects:
        match change.kind:
            case "replace":
                caption = exchange(caption, noun, change.result) if noun is objects[0] else drop(caption, noun)
            case "remove":
                caption = _removed(caption, noun)
            case "add":
                caption = extend(caption, noun, change.result, change.link or "with")
            case "modify":
                caption = modify(caption, noun, change.result)
    return caption


def _removed(caption: str, noun: Noun) -> str:
    """Without the object; where it stood alone and belonged to somebody or stood by something, that is left."""
    if re.fullmatch(rf"photo of (?:an?|the)? ?{re.escape(noun.core)}", caption) and noun.owner:
        owner = parse_noun(noun.owner)
        return f"photo of {owner.caption}" if owner else caption
    return drop(caption, noun)


def _is_picture(objects: str) -> bool:
    words = words_of(objects)
    return (
        bool(words) and words[-1] in PICTURES and {*words} <= PICTURES | {"the", "this", "whole", "entire", "my", "all"}
    )


def _is_contrary(text: str) -> bool:
    """Whether a `but` was left that stands between other things than two qualities."""
    return "but" in words_of(text) and not is_all_quality(text)


def _keyword(text: str, change: Change, objects: tuple[Noun, ...], new: tuple[Noun, ...]) -> str:
    """The words of the text that name what is edited or added."""
    if not objects and change.kind == "modify":
        new = parse_list(change.result)
    for noun in new if change.kind == "add" or not objects else objects:
        for words in (noun.core, noun.head):
            if found := re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.I):
                return found.group(0)
    return choose_keyword(text)


def _parse(instruction: str, description: str | None) -> ParsedInstruction:
    """Read every request of an instruction.

    Raises:
        ParseError: if one of them is not understood.
    """
    require_text(instruction)
    if _SPARED.search(instruction.translate(QUOTES)):
        raise ParseError(
            "expected what is to change, not what is to stay",
            reply=instruction,
            advice="name only the objects to change, or give a mask",
        )
    reading = _Reading(description if description and re.search(r"\w", description) else None)
    changes = [change for clause in split_clauses(instruction) for change in parse_clause(clause) or [None]]
    if not changes or not all(change is not None and reading.add(change) for change in changes):
        raise ParseError("expected a request to edit", reply=instruction, advice=_ADVICE)
    before, after = reading.captions()
    return validate(reading.edits, before, after, reply=instruction, advice=_ADVICE)
