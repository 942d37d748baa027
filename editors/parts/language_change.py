"""What one edit is, and what an object can become or have."""

import re
from dataclasses import dataclass
from typing import Literal

from .language_phrases import Noun, is_all_quality, parse_list, parse_noun, plain_quality
from .language_words import NUMBERS, is_plural, is_quality, singular, words_of


@dataclass(frozen=True, kw_only=True)
class Change:
    """One edit, understood."""

    kind: Literal["replace", "remove", "add", "modify"]
    objects: str
    """The words that name what is edited or, for `add`, what it is added to; empty = nothing, so the whole picture."""
    result: str = ""
    """What it becomes, gets (a noun phrase), or is like (a quality, or a clause that begins with `that` or a verb)."""
    link: str = ""
    """add: how it is joined, e.g. `on top of`; remove: from where."""
    place: str = ""
    """remove: what the removed thing is taken from."""
    text: str = ""
    """The request that says so."""


_TRAIT = r"(?:colou?r(?:ing|ation)?|size|material|texture|finish|surface|shade|hue|appearance|look|brightness)s?"


_TRAIT_OF = re.compile(rf"^(?:the )?(?:\w+ )?{_TRAIT} of (?P<x>.+)$", re.I)


_TRAIT_AFTER = re.compile(rf"^(?P<x>.+?(?:'s|s')?) {_TRAIT}$", re.I)


_SHAPE = re.compile(r"^(?:the )?shape of (?P<x>.+)$|^(?P<y>.+?)(?:'s)? shape$", re.I)


def objects_of(text: str) -> tuple[Noun, ...]:
    """The objects that the words of a change name; empty for the whole picture, or for nothing.

    Traits are not objects: the object of `the colour of the cube` is the cube.
    """
    return parse_list(strip_trait(text)[0])


def is_one_of(text: str, kind: frozenset[str]) -> bool:
    """Whether the noun of a phrase, or a pronoun, is one of these."""
    noun = parse_noun(text)
    return (noun is not None and {noun.head.casefold(), singular(noun.head)} & kind != set()) or text.casefold() in kind


def strip_trait(objects: str) -> tuple[str, bool]:
    """The object of a trait, `cube` of `the colour of the cube`, and whether there was a trait."""
    objects = re.sub(
        r" from (?:a |an )?(?P<q>[\w-]+)$", lambda m: "" if is_quality(m["q"]) else m[0], objects, flags=re.I
    )
    if found := _TRAIT_OF.match(objects):
        return found["x"], True
    if (found := _TRAIT_AFTER.match(objects)) and parse_noun(found["x"]):
        # `its colour` has no noun; `his hair colour` has.
        return re.sub(r"(?:'s|(?<=s)')$", "", found["x"]), True
    its = re.fullmatch(rf"its {_TRAIT}", objects, re.I) is not None
    return "it" if its else objects, its


def _names_thing(result: str) -> bool:
    """`a robot` and `roses` name things, `asleep` and `on fire` do not."""
    words = words_of(result)
    return bool(words) and (words[0] in {"a", "an", "the", "some"} | NUMBERS or is_plural(words[-1]))


def become(subject: str, result: str, *, noun: bool = False, bare: bool = False) -> Change:
    """What an object turns into, which is another object or a quality of the same.

    Args:
        subject: the object.
        result: what it turns into.
        noun: the result is another object, whatever its words.
        bare: an unknown word without article is an object rather than a quality.
    """
    subject, trait = strip_trait(subject)
    if shape := _SHAPE.match(subject):
        return Change(kind="replace", objects=shape["x"] or shape["y"], result=result)
    if (again := re.fullmatch(r"(?:an? |the )?(.+?) (?:ones?|version)", result, re.I)) and is_all_quality(again[1]):
        return Change(kind="modify", objects=subject, result=plain_quality(again[1]))
    if re.match(r"(?:twice|half|three times|\d+ times) as\b", result, re.I):
        return Change(kind="modify", objects=subject, result=plain_quality(result))
    if not noun and (trait or is_all_quality(result)):
        return Change(kind="modify", objects=subject, result=plain_quality(result))
    if not noun and not bare and not _names_thing(result):
        return Change(kind="modify", objects=subject, result=result)
    return Change(kind="replace", objects=subject, result=result)


def predicate(subject: str, verb: str, rest: str) -> Change:
    """What a subject is said to be, to have or to wear."""
    verb = re.sub(r"^to ", "", verb.casefold())
    if verb == "in":
        return Change(kind="modify", objects=subject, result=plain_quality(rest))
    if found := re.fullmatch(r"(?:being )?(wearing|holding|carrying) (.+)", rest, re.I):
        return Change(kind="add", objects=subject, result=found[2], link=found[1].lower())
    if re.match(r"have|had|has|get|got", verb) and not is_all_quality(rest):
        if found := re.fullmatch(rf"(?:a |an )?(?P<y>.+?) {_TRAIT}", rest, re.I):
            return Change(kind="modify", objects=subject, result=plain_quality(found["y"]))
        if found := re.fullmatch(r"no (.+)", rest, re.I):
            return Change(kind="remove", objects=found[1], place=subject, link="with")
        return Change(kind="add", objects=subject, result=rest, link="with")
    if found := re.match(r"wear|wore|hold|carry", verb):
        link = {"wea": "wearing", "wor": "wearing", "hol": "holding", "car": "carrying"}[verb[:3]]
        return Change(kind="add", objects=subject, result=rest, link=link)
    if found := re.fullmatch(
        r"(?:replaced (?:with|by)|turned into|changed (?:in)?to|swapped (?:for|with)) (.+)", rest, re.I
    ):
        return become(subject, found[1], noun=True)
    if re.match(r"look", verb) and (found := re.fullmatch(r"(?:like|as if) (.+)", rest, re.I)):
        return Change(kind="modify", objects=subject, result=f"that looks like {found[1]}")
    rest = re.sub(r"^(?:painted|colou?red|dyed|changed to|turned|made)(?: in)? (?!of)", "", rest, flags=re.I)
    return become(subject, rest)
