"""Requests to make something other than it is: `make the cube red and the sphere blue`."""

import re
from dataclasses import replace

from .language_change import Change, become, predicate, strip_trait
from .language_clauses import COLORING, MAKING, TURNING
from .language_phrases import group_list, is_all_quality, parse_noun, plain_quality, split_quality
from .language_requests import verbs
from .language_words import ACTIONS, DETERMINERS, PICTURES, PREPOSITIONS, gerund, is_plural, is_quality, words_of

_VANISH = re.compile(r"(?P<x>.+?) (?:disappear|vanish|go away|go|be gone|invisible|gone)", re.I)
_LOOK_LIKE = re.compile(r"(?P<x>.+?) (?:to )?(?:look|appear|seem) (?:like|as if|as though) (?P<y>.+)", re.I)
_LOOK = re.compile(r"(?P<x>.+?) (?:to )?(?:look|appear|seem|become) (?P<y>.+)", re.I)
_DO = re.compile(r"(?P<x>.+?) (?:to )?(?P<v>wear|hold|carry|have|be) (?P<y>.+)", re.I)
_COVERED = re.compile(r"(?P<x>.+?) (?P<y>(?:covered|surrounded|filled|decorated|coated) (?:in|with|by) .+)", re.I)
_NOUN = re.compile(
    r"(?P<x>.+?)(?<! with)(?<! in)(?<! on)(?<! of)(?<! by)(?<! near)(?<!ing)(?<! behind)(?<! to)(?<! at)(?<! under)"
    r" (?P<y>an? (?!bit |little |lot |tiny ).+)",
    re.I,
)
_OF = re.compile(r"(?P<x>.+?) (?:out of|made (?:out )?of|from|of) (?P<y>.+)", re.I)
_IN = re.compile(r"(?P<x>.+?) (?:in|with|to) (?P<y>.+)", re.I)
_STANDINS = frozenset("it this that everything him her them".split())


def making(clause: str) -> list[Change]:
    """`make the cube red and the sphere blue`, `paint the wall green`."""
    found = re.fullmatch(rf"(?P<v>{verbs([*MAKING, *TURNING, *COLORING])}) (?P<x>.+)", clause, re.I)
    if not found:
        return []
    verb = found["v"]
    items = group_list(found["x"], lambda item: make_one(item, verb) is not None)
    changes = [make_one(item, verb) or _make_last(item) for item in items]
    if not all(changes):
        return []
    return [replace(c, text=f"{verb} {item}") for c, item in zip(changes, items, strict=True) if c]


def make_one(item: str, verb: str) -> Change | None:
    """An object with what becomes of it; None where no result is seen."""
    if found := _VANISH.fullmatch(item):
        return Change(kind="remove", objects=found["x"])
    if (found := _LOOK_LIKE.fullmatch(item)) and _names(found["x"]):
        made = re.fullmatch(r"(?:it|they) (?:is|are|was|were) (made (?:out )?of .+)", found["y"], re.I)
        result = plain_quality(made[1]) if made else f"that looks like {found['y']}"
        return Change(kind="modify", objects=found["x"], result=result)
    if (found := _LOOK.fullmatch(item)) and _names(found["x"]):
        return become(found["x"], found["y"])
    if (found := _DO.fullmatch(item)) and _names(found["x"]):
        return predicate(found["x"], found["v"], found["y"])
    return _act(item) or _result(item, verb)


def _names(text: str) -> bool:
    return text.casefold() in _STANDINS or parse_noun(text) is not None


def _act(item: str) -> Change | None:
    """`the woman smile`, `the man ride a horse`: a bare verb after the object."""
    words = item.split()
    for at in range(1 + (words[0].casefold() in DETERMINERS), len(words)):
        before, rest = words[at - 1].casefold(), " ".join(words[at + 1 :])
        described = "'" in before or is_quality(before) or before in DETERMINERS or is_all_quality(rest)
        if words[at].casefold() in ACTIONS and not described and parse_noun(" ".join(words[:at])):
            doing = f"{gerund(words[at].casefold())} {rest}".strip()
            return Change(kind="modify", objects=" ".join(words[:at]), result=doing)
    return None


def _result(item: str, verb: str) -> Change | None:
    """What stands after the object without a verb between them."""
    if (found := _NOUN.fullmatch(item)) and _names(found["x"]):
        return become(found["x"], found["y"])
    if (found := _COVERED.fullmatch(item)) and _names(found["x"]):
        return Change(kind="modify", objects=found["x"], result=found["y"])
    for pattern in (_OF, _IN) if verb.casefold() in COLORING else (_OF,):
        if (found := pattern.fullmatch(item)) and is_all_quality(found["y"]):
            return Change(kind="modify", objects=strip_trait(found["x"])[0], result=plain_quality(found["y"]))
    words = item.split()
    quality = split_quality(item)
    owned = words[0].casefold() in {"her", "its", "this", "that"} and quality is not None and len(words) > 2
    if words[0].casefold() in _STANDINS and len(words) > 1 and not owned and verb.casefold() not in {"let", "have"}:
        return None if {*words_of(item)} & PICTURES and len(words) == 2 else become(words[0], " ".join(words[1:]))
    if quality is None:
        return None
    return Change(kind="modify", objects=strip_trait(quality[0])[0], result=plain_quality(quality[1]))


def _make_last(item: str) -> Change | None:
    """`make the house cosy`: a last word that is not known is the quality."""
    words = item.split()
    start = sum(1 for word in words if word.casefold() in DETERMINERS)
    noun = parse_noun(" ".join(words[:-1])) if len(words) - start > 1 else None
    # After "the cat on" the last word is a place, not a quality.
    if noun is None or words[-1].casefold() in PREPOSITIONS or len(noun.after.split()) == 1 or is_quality(noun.head):
        return None
    objects, last = " ".join(words[:-1]), words[-1]
    if is_plural(last) and is_plural(noun.head):
        return Change(kind="replace", objects=objects, result=last)
    return Change(kind="modify", objects=objects, result=last)


_IMAGINED = re.compile(
    r"(?:(?:what|how) would (?:it|this|that) look(?: like)?|what if (?:it|this|that) (?:was|were|is)|as if (?:it|this) "
    r"(?:was|were)|(?:redraw|repaint|draw|render|show|paint|reimagine|restyle) (?:it|this|that|everything))"
    r"(?: (?:like|as))? (?P<y>.+)|(?P<z>(?:in the style of|as an?) .+)",
    re.I,
)


def imagined(clause: str) -> list[Change]:
    """`what if it were snowing`, `what would it look like in winter`, `in the style of Monet`: the whole picture."""
    found = _IMAGINED.fullmatch(clause)
    return [Change(kind="modify", objects="it", result=found["y"] or found["z"])] if found else []
