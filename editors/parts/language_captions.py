"""Captions before and after an edit: a description in which only the words of the edited object change."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .language_phrases import Noun, agree, many, parse_list, parse_noun, qualify
from .language_words import (
    ARTICLES,
    DETERMINERS,
    GENERIC,
    PARTICIPLES,
    PICTURES,
    PLACES,
    PREPOSITIONS,
    RELATIVES,
    forms_of,
    indefinite,
    is_quality,
    singular,
    with_article,
    words_of,
)

EMPTY = "an empty background"
_COUNTED = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_STOPS = PREPOSITIONS | RELATIVES | PARTICIPLES | frozenset("and or but is are was were has have while as it".split())
_KIND = (
    r"(?:[\w -]+? )?(?:photo|picture|image|photograph|painting|drawing|portrait|close-up|landscape|view|sketch|shot) of"
)
_LIGHT = frozenset("is are was were in on to of at top front next left right the back".split())
_STYLES = re.compile(
    r"\b(?:painting|drawing|sketch|cartoon|watercolou?r|photo|photograph|picture|illustration|comic|poster|mosaic|render|"
    r"engraving|collage|anime|fresco|print)\b",
    re.I,
)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Where a caption speaks of an object."""

    start: int
    end: int
    noun: Noun
    determiner: str
    """`a`, `the`, `two`, ... as written; empty where there is none."""


def describe(nouns: Sequence[Noun]) -> str:
    """A caption of objects nobody described: `photo of a cube and a ball`."""
    names = list(dict.fromkeys(noun.caption for noun in nouns))
    return f"photo of {_join(names)}" if names else "photo"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def find(caption: str, noun: Noun) -> Span | None:
    """Where a caption speaks of an object.

    Of all places that have its noun, or another form or name of it, the one that shares most of its words.
    """
    wanted = {word.casefold() for word in noun.modifiers}
    around = {*words_of(noun.after)} - _STOPS - ARTICLES
    best: tuple[float, Span] | None = None
    generic = noun.head.casefold() in GENERIC
    for match in re.finditer(r"[\w'-]+", caption):
        word = match.group(0).casefold()
        exact = word == noun.head.casefold()
        if not exact and word not in forms_of(noun.head) and not (generic and word in wanted):
            continue
        span = _extend(caption, match.end() if not generic or exact else _chunk_end(caption, match.end()))
        if span is None:
            continue
        following = set(words_of(caption[span.end : span.end + 40])[: len(around) + 4])
        shared = len(wanted & {m.casefold() for m in span.noun.modifiers}) + 0.5 * len(around & following) + 0.1 * exact
        if not exact and generic and not wanted & {*words_of(caption[span.start : span.end])}:
            continue
        if best is None or shared > best[0]:
            best = (shared, span)
    return best[1] if best else None


def _chunk_end(caption: str, end: int) -> int:
    """The end of the noun phrase that goes on after a modifier."""
    for match in re.compile(r"\s+([\w'-]+)").finditer(caption, end):
        if match.start() != end or match.group(1).casefold() in _STOPS or match.group(1).endswith("ing"):
            break
        end = match.end()
    return end


def _extend(caption: str, end: int) -> Span | None:
    """The noun phrase that ends here."""
    start, words = end, list[str]()
    determiner = ""
    for match in reversed(list(re.finditer(r"[\w'-]+", caption[:end]))):
        word = match.group(0)
        if words and not re.fullmatch(r"\s+", caption[match.end() : start]):
            break
        if word.casefold() == "and" and words and _joins(caption[: match.start()], words[0]):
            words.insert(0, word)
            start = match.start()
            continue
        if word.casefold() in _STOPS or (words and word.casefold().endswith("ing") and word.casefold() != "living"):
            break
        start = match.start()
        if word.casefold() in DETERMINERS:
            determiner = word.casefold()
            break
        words.insert(0, word)
    if words and not determiner and start == 0:
        # A capital that only opens the sentence.
        words[0] = words[0].lower()
    noun = parse_noun(" ".join(words)) if words else None
    return Span(start=start, end=end, noun=noun, determiner=determiner) if noun and not noun.after else None


def _joins(before: str, after: str) -> bool:
    """Whether an `and` stands between two qualities: `red and blue`."""
    previous = words_of(before)[-1:]
    return bool(previous) and is_quality(previous[0]) and is_quality(after)


def ensure(caption: str, noun: Noun) -> str:
    """The caption, with the object named where it was not."""
    if find(caption, noun):
        return caption
    owner = parse_noun(noun.owner) if noun.owner else None
    if owner and (span := find(caption, owner)):
        own = parse_noun(" ".join((*noun.modifiers[len(noun.owner.split()) :], noun.head))) if noun.owner else None
        if own:
            return f"{caption[: span.end]} with {own.caption}{caption[span.end :]}"
    return f"{caption} and {noun.caption}" if re.search(r"\w", caption) else noun.caption


def _put(caption: str, span: Span, text: str) -> str:
    at_start = span.start == 0 and caption[:1].isupper()
    text = text[:1].upper() + text[1:] if at_start else text
    return f"{caption[: span.start]}{text}{caption[span.end :]}"


def _again(span: Span, noun: Noun, *, new: bool = False) -> str:
    """The phrase with the determiner it had, if that still fits."""
    if span.determiner and span.determiner not in {"a", "an"} and (span.determiner != "the" or not new):
        return f"{span.determiner} {noun.core} {noun.after}".strip()
    if span.determiner and not new and not many(noun):
        return f"{indefinite(noun.core)} {noun.core} {noun.after}".strip()
    if not span.determiner and not many(noun) and span.start and many(span.noun) == many(noun):
        return f"{noun.core} {noun.after}".strip()
    return noun.caption


def modify(caption: str, noun: Noun, quality: str) -> str:
    """The caption with a quality put on the object: an adjective before it, or a clause after it."""
    span = find(caption, noun)
    if span is None:
        return f"{caption}, {quality}"
    if quality.startswith("that ") or (" " in quality and _follows(quality)):
        return f"{caption[: span.end]} {_plural_verb(quality, span.noun)}{caption[span.end :]}"
    if " " in quality and quality.split(maxsplit=1)[0].endswith("ing"):
        return f"{caption[: span.end]} {quality}{caption[span.end :]}"
    return _put(caption, span, _again(span, qualify(span.noun, quality)))


def _follows(quality: str) -> bool:
    words = words_of(quality)
    return words[0].endswith("ing") or bool({*words} & (PREPOSITIONS | {"as", "than"}))


def _plural_verb(quality: str, noun: Noun) -> str:
    return quality.replace("that looks like", "that look like") if many(noun) else quality


def exchange(caption: str, noun: Noun, result: str) -> str:
    """The caption with another object in the place of this one."""
    span = find(caption, noun)
    new = parse_list(result)
    if span is None or not new:
        return f"{caption} and {result}"
    if _is_one_of_many(noun, span):
        # "the left dog" where "two dogs" are described: they are not all replaced.
        return f"{caption[: span.end]} and {_join([n.caption for n in new])}{caption[span.end :]}"
    owned = [agree(n, Noun(modifiers=span.noun.modifiers, head=span.noun.head)) for n in new]
    names = [_again(span, n, new=True) if len(owned) == 1 and many(n) == many(span.noun) else n.caption for n in owned]
    edited = _put(caption, span, _join(names))
    tail = edited[len(edited) - len(caption[span.end :]) :]
    # What described the old object goes with it, `that can roll`, `in a red shirt`; what located it stays.
    if not noun.locates and noun.after and tail.strip().startswith(noun.after):
        edited = edited[: -len(tail)] + tail.replace(f" {noun.after}", "", 1)
    return edited


def extend(caption: str, noun: Noun, thing: str, link: str) -> str:
    """The caption with something added to the object: `a dog wearing a hat`, `a cube with a ball next to it`."""
    span = find(caption, noun)
    things = parse_list(thing)
    named = _join([t.caption for t in things]) if things else thing
    if span is None:
        return f"{caption} and {named}"
    pronoun = "them" if many(span.noun) else "it"
    if link in {"with", "wearing", "holding", "carrying", "filled with", "covered in", "topped with", "wrapped in"}:
        tail = f" {link} {named}"
    else:
        tail = f" with {named} {link} {pronoun}"
    # What locates the object stays with it: "a girl with a red coat wearing a scarf".
    follows = caption[span.end :].casefold().startswith(f" {noun.after.casefold()}") and noun.after
    end = span.end + (len(noun.after) + 1 if follows else 0)
    return caption[:end] + tail + caption[end:]


def drop(caption: str, noun: Noun) -> str:
    """The caption without the object, its commas and conjunctions mended."""
    span = find(caption, noun)
    if span is None:
        return caption
    if _is_one_of_many(noun, span):
        return _put(caption, span, _fewer(span))
    left, right = caption[: span.start].rstrip(), caption[span.end :]
    if not noun.locates:
        # What describes the object goes with it, "with the red hat"; what locates it is still there.
        right = _without_words(right, noun.after)
    kind = re.match(rf"{_KIND}$", left, re.I)
    if (not left or kind) and not re.match(r"\s*,|\s+and\b", right):
        return _opened(left, right)
    if re.search(r"(?:,|\band)$", left):
        return _mended(re.sub(r"[\s,]*(?:\band)?[\s,]*$", "", left), _without_place(right, noun))
    if re.match(r"\s*,|\s+and\b", right) and (not left or kind or re.search(r":$", left)):
        rest = re.sub(r"^\s*(?:,\s*(?:and\b)?|and\b)\s*", "", right)
        return f"{left} {rest}" if left else rest[:1].upper() + rest[1:]
    stripped = _without_link(left)
    if re.fullmatch(rf"{_KIND}|", stripped, re.I) and not re.fullmatch(_KIND, left, re.I):
        stripped = stripped or left
    if re.match(r"\s+and\b", right) and stripped != left:
        rest = re.sub(r"^\s+and\s+", "", right)
        return f"{left} {rest}"
    return f"{stripped}{_without_place(right, noun)}" or EMPTY


def _is_one_of_many(noun: Noun, span: Span) -> bool:
    return many(span.noun) and not many(noun)


def _fewer(span: Span) -> str:
    """The phrase for several things with one of them gone."""
    number = next((word for word in span.noun.modifiers if word.casefold() in _COUNTED), None)
    if number is None:
        return f"the other {span.noun.core}"
    count = _COUNTED.index(number.casefold())
    if count == 0:
        rest = " ".join((*(w for w in span.noun.modifiers if w != number), singular(span.noun.head)))
        return f"{span.determiner or indefinite(rest)} {rest}"
    counted = span.noun.core.replace(number, _COUNTED[count - 1], 1)
    return f"{span.determiner} {counted}".strip()


def _without_words(right: str, words: str) -> str:
    """What follows an object, without these words at its beginning, whatever articles are in them."""
    if not words:
        return right
    kept = [re.escape(word) for word in words.split() if word.casefold() not in DETERMINERS]
    between = rf"\s+(?:(?:{'|'.join(sorted(DETERMINERS))})\s+)*"
    return re.sub(rf"^{between}{between.join(kept)}(?![\w'-])", "", right, count=1, flags=re.I)


def _without_place(right: str, noun: Noun) -> str:
    """What follows a dropped object, without the words that located it."""
    if noun.after and right.strip().startswith(noun.after):
        return right.replace(f" {noun.after}", "", 1)
    return right


def _opened(left: str, right: str) -> str:
    """A caption whose first object is gone goes on with the next one."""
    for match in re.finditer(r"\b(?:an?|the|two|three|four|some)\s+([\w'-]+)", right, re.I):
        if match.group(1).casefold() not in PLACES:
            rest = right[match.start() :]
            return f"{left} {rest}" if left else rest[:1].upper() + rest[1:]
    bare = re.search(r"\b(?:on|in|at|under|near|by|behind|beside)\s+([\w' -]+)$", right)
    if bare and not {*words_of(bare.group(1))} & PLACES:
        return f"{left} {bare.group(1)}" if left else bare.group(1).capitalize()
    return f"{left} {EMPTY}" if left else EMPTY[:1].upper() + EMPTY[1:]


def _without_link(left: str) -> str:
    """What led to a dropped object is dropped with it: `sitting next to`, `wearing`, `on top of`."""
    words = left.split()
    cut = len(words)
    while cut > 1 and not words[cut - 1].endswith(","):
        word = words[cut - 1].casefold()
        linking = word in PREPOSITIONS | PARTICIPLES | _LIGHT
        if not linking and not (word.endswith(("ing", "ed")) and len(word) > 4):
            break
        if word == "of" and words[cut - 2].casefold() in PICTURES | {"portrait", "close-up", "landscape"}:
            break
        cut -= 1
    return " ".join(words[:cut]).rstrip(",")


def _mended(left: str, right: str) -> str:
    """`a cube, a ball` that was the beginning of a longer list gets its `and`."""
    if "," in left and " and " not in left and not re.match(r"\s*(?:,|and\b)", right):
        before, _, last = left.rpartition(",")
        left = f"{before} and{last}"
    return left + right


def restyle(caption: str, quality: str, *, described: bool) -> str:
    """The caption of the whole picture made something else."""
    quality = re.sub(r"^that looks like ", "like ", quality)
    bare = re.sub(r"^(?:like )?(?:an? )?", "", quality)
    if _STYLES.search(bare):
        if not described:
            return bare
        scene = re.sub(rf"^(?:{_KIND})\s+", "", caption, flags=re.I)
        scene = scene[:1].lower() + scene[1:] if scene.split()[0].casefold() in ARTICLES else scene
        styled = with_article(bare, bare.split()[-1])
        return f"{styled[:1].upper()}{styled[1:]} of {scene}"
    if len(bare.split()) == 1 and not described and is_quality(bare):
        return f"{bare} {caption}" if not quality.startswith("like ") else f"{caption} {quality}"
    return f"{caption}, {quality}"
