"""Requests to make something other than it is: `make the cube red and the sphere blue`."""

import re
from collections.abc import Callable

from .language_change import Change, become, predicate, strip_trait
from .language_clauses import COLORING, MAKING, TURNING, strip_courtesy
from .language_phrases import group_list, is_all_quality, parse_noun, plain_quality, split_quality
from .language_requests import verbs
from .language_words import ACTIONS, DETERMINERS, gerund, is_plural

_VANISH = re.compile(r"^(?P<x>.+?) (?:disappear|vanish|go away|go|be gone|invisible|gone)$", re.I)


_STANDINS = frozenset("it this that everything him her them".split())


def making(clause: str) -> list[Change]:
    """`make the cube red and the sphere blue`, `paint the wall green`."""
    found = re.fullmatch(rf"(?P<v>{verbs([*MAKING, *TURNING, *COLORING])}) (?P<x>.+)", clause, re.I)
    return make_list(found["x"], found["v"]) if found else []


def make_list(rest: str, verb: str) -> list[Change]:
    items = group_list(rest, lambda item: make_one(item, verb) is not None)
    changes = [make_one(item, verb) or _make_last(item) for item in items]
    if not all(changes):
        return []
    return [Change(**{**vars(c), "text": f"{verb} {item}"}) for c, item in zip(changes, items, strict=True) if c]


_PATTERNS: tuple[tuple[str, Callable[["re.Match[str]"], Change | None]], ...] = (
    (
        r"(?P<x>.+?) (?:to )?(?:look|appear|seem)(?:ing)? (?:like|as if|as though) (?P<y>.+)",
        lambda m: (
            Change(kind="modify", objects=m["x"], result=plain_quality(made[1]))
            if (made := re.fullmatch(r"(?:it|they) (?:is|are|was|were) (made (?:out )?of .+)", m["y"], re.I))
            else Change(kind="modify", objects=m["x"], result=f"that looks like {m['y']}")
        ),
    ),
    (r"(?P<x>.+?) (?:to )?(?:look|appear|seem|become)(?:ing)? (?P<y>.+)", lambda m: become(m["x"], m["y"])),
    (
        r"(?P<x>.+?) (?:to )?(?P<v>wear|hold|carry|have|be)(?:ing)? (?P<y>.+)",
        lambda m: predicate(m["x"], m["v"], m["y"]),
    ),
    (
        r"(?P<x>.+?)(?<! with)(?<! in)(?<! on)(?<! of)(?<! by)(?<! near)(?<! holding)(?<! wearing)(?<! behind)(?<! to)"
        r" (?P<y>an? (?!bit |little |lot |tiny ).+)",
        lambda m: become(m["x"], m["y"]) if parse_noun(m["x"]) or m["x"].casefold() in _STANDINS else None,
    ),
    (
        r"(?P<x>.+?) (?:out of|made (?:out )?of|from|in|with|of|to) (?P<y>.+)",
        lambda m: (
            Change(kind="modify", objects=m["x"], result=plain_quality(m["y"])) if is_all_quality(m["y"]) else None
        ),
    ),
)


def make_one(item: str, verb: str) -> Change | None:
    """An object with what becomes of it; None where no result is seen."""
    if found := _VANISH.fullmatch(item):
        return Change(kind="remove", objects=found["x"])
    for pattern, build in _PATTERNS:
        if (found := re.fullmatch(pattern, item, re.I)) and (change := build(found)):
            return change
    words = item.split()
    if words[0].casefold() in _STANDINS and len(words) > 1 and verb.casefold() not in {"let", "have"}:
        return become(words[0], " ".join(words[1:]))
    if quality := split_quality(item):
        return Change(kind="modify", objects=strip_trait(quality[0])[0], result=plain_quality(quality[1]))
    for at in range(1 + (words[0].casefold() in DETERMINERS), len(words)):
        if words[at].casefold() in ACTIONS and parse_noun(" ".join(words[:at])):
            doing = " ".join([gerund(words[at].casefold()), *words[at + 1 :]])
            return Change(kind="modify", objects=" ".join(words[:at]), result=doing)
    return None


def _make_last(item: str) -> Change | None:
    """`make the house cosy`: a last word that is not known is the quality."""
    words = item.split()
    start = sum(1 for word in words if word.casefold() in DETERMINERS)
    if len(words) - start < 2:
        return None
    objects, last = " ".join(words[:-1]), words[-1]
    if (noun := parse_noun(objects)) is None or (
        noun.after.split()[-1:] == [words[-2]] and len(noun.after.split()) == 1
    ):
        return None
    if is_plural(last) and is_plural(noun.head):
        return Change(kind="replace", objects=objects, result=last)
    return Change(kind="modify", objects=objects, result=last)


def imagined(clause: str) -> list[Change]:
    """`what if it were snowing`, `what would it look like in winter`, `in the style of Monet`: the whole picture."""
    found = re.fullmatch(
        r"(?:(?:what|how) would (?:it|this|that) look(?: like)?|what if (?:it|this|that) (?:was|were|is)|as if (?:it|this) "
        r"(?:was|were)|(?:redraw|repaint|draw|render|show|paint|reimagine|restyle) (?:it|this|that|everything))"
        r"(?: (?:like|as))? (?P<y>.+)|(?P<z>(?:in the style of|as an? ) .+)",
        strip_courtesy(clause),
        re.I,
    )
    return [Change(kind="modify", objects="it", result=found["y"] or found["z"])] if found else []
