"""Noun phrases: what is before the noun, the noun, what is after it; lists of them; and qualities put on them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from .language_words import (
    ARTICLES,
    COLORS,
    DEGREES,
    DETERMINERS,
    FINISHES,
    ING_NOUNS,
    MATERIALS,
    NOUN_COLORS,
    NUMBERS,
    ORDINALS,
    PARTICIPLES,
    PLACES,
    PLAIN_RESULTS,
    PREPOSITIONS,
    RELATIVES,
    RESULTS,
    SIZES,
    WORN,
    is_plural,
    is_quality,
    singular,
    with_article,
    words_of,
)

_AND = re.compile(r"\s*,\s*(?:and\s+|&\s*)?|\s+and\s+|\s*&\s*|\s+as well as\s+|\s+plus\s+", re.I)
_LOCATED = re.compile(r"\b(?:on|in|at|above|behind|under|below|beneath|near|beside|from|of|by|over)\s+(?:the\s+)?(.+)$")
_WHERE = re.compile(
    r"(?:on|in|at|under|behind|above|below|near|beside|next to|to the|from the|between|left of|right of|by|over)\b",
    re.I,
)
_SPEAKERS = frozenset("i me we us you myself".split())
_ORDER = (SIZES, FINISHES, COLORS | NOUN_COLORS, MATERIALS)
"""English names size before finish before colour before material."""


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A noun phrase, as written but for its determiner."""

    modifiers: tuple[str, ...] = ()
    """What stands before the noun."""
    head: str
    after: str = ""
    """What follows the noun and belongs to it, e.g. `on the left`."""

    @property
    def core(self) -> str:
        """The phrase up to its noun."""
        return " ".join((*self.modifiers, self.head))

    @property
    def phrase(self) -> str:
        """What a segmenter is asked for."""
        return f"{self.core} {self.after}".strip().lower()

    @property
    def caption(self) -> str:
        """The phrase as a caption says it."""
        return with_article(f"{self.core} {self.after}".strip(), self.head)

    @property
    def owner(self) -> str | None:
        """`man` of `man's shirt`."""
        for index, word in enumerate(self.modifiers):
            if word.endswith(("'s", "s'")):
                return " ".join((*self.modifiers[:index], re.sub(r"'s?$", "", word)))
        return None

    @property
    def locates(self) -> bool:
        """Whether what follows the noun says where it is, rather than what it is like."""
        worn = bool({*words_of(self.after)} & WORN)
        return _WHERE.match(self.after) is not None and not worn

    @property
    def place(self) -> str | None:
        """The thing this one is located by, `table` of `on the table`; None where it is a side of the picture."""
        found = _LOCATED.search(self.after)
        if found is None or {*words_of(found.group(1))} <= PLACES | DETERMINERS | PREPOSITIONS | {"of", "picture"}:
            return None
        return found.group(1)


def parse_noun(text: str) -> Noun | None:
    """Read a noun phrase; None where the text names nothing."""
    one = re.match(r"(?:any |just )?one of (?:the|these|those|my|his|her|their) (?=\w)", text, re.I)
    text = text[one.end() :] if one else text
    words = [word for raw in text.split() if (word := raw.strip('.,;:!?"“”()[]'))]
    lowered = [word.casefold() for word in words]
    start = 0
    while start < len(words) and (lowered[start] in DETERMINERS or (start and lowered[start] == "of")):
        start += 1
    end = start
    while end < len(words) and not (end > start and _begins_after(lowered, end)):
        end += 1
    if start == len(words) or lowered[start] in PREPOSITIONS | RELATIVES | {"and", "or"}:
        return None
    if not re.search(r"[^\W_]", words[end - 1]) or {*lowered[start:end]} & _SPEAKERS:
        return None
    head = singular(words[end - 1]) if one else words[end - 1]
    return Noun(modifiers=tuple(words[start : end - 1]), head=head, after=" ".join(words[end:]))


def _begins_after(lowered: list[str], index: int) -> bool:
    word = lowered[index]
    if word in PREPOSITIONS | RELATIVES | PARTICIPLES:
        return True
    following = lowered[index + 1] if index + 1 < len(lowered) else ""
    if word in {"left", "right", "closest", "nearest", "furthest"} and following in {"of", "to", "from"}:
        return True
    return word.endswith("ing") and len(word) > 4 and word not in ING_NOUNS and not is_quality(lowered[index - 1])


def split_list(text: str) -> list[str]:
    """The items of a list; adjectives joined by `and` stay together, and so does what is between two things."""
    items: list[str] = []
    for part in _AND.split(text):
        content = [word for word in words_of(part) if word not in DETERMINERS]
        last = words_of(items[-1]) if items else []
        joined = bool(last) and ("between" in last or all(w in RESULTS | DETERMINERS | NUMBERS for w in last))
        if items and (joined or not content or all(word in RESULTS | DEGREES for word in content)):
            items[-1] = f"{items[-1]} and {part}"
        elif part.strip():
            items.append(part.strip())
    return items


def parse_list(text: str) -> tuple[Noun, ...]:
    """The noun phrases of a list; empty where one of them names nothing."""
    nouns = [parse_noun(item) for item in split_list(text)]
    return tuple(noun for noun in nouns if noun is not None) if all(nouns) else ()


def group_list(text: str, complete: Callable[[str], bool]) -> list[str]:
    """Split a list of objects with results between them, `the cube red and the ball blue`, into complete pieces.

    Args:
        text: the list.
        complete: whether a piece has objects and their result.
    """
    groups: list[str] = []
    pending = ""
    for item in split_list(text):
        pending = f"{pending} and {item}" if pending else item
        if complete(item):
            groups.append(pending)
            pending = ""
    if not pending:
        return groups or [text]
    # What is left over belongs to the last result: "replace the cat with a dog and a bird".
    return [*groups[:-1], f"{groups[-1]} and {pending}"] if groups else [text]


def split_quality(text: str) -> tuple[str, str] | None:
    """Split `the large cube small` into the object and what it becomes; None where no quality ends the text."""
    for pattern in (
        r"(?P<x>.+?) (?P<y>(?:(?:a|the) )?(?:much |a bit |a little )?same \w+ as .+)",
        r"(?P<x>.+?) (?P<y>(?:twice|half|three times|\d+ times) as \w+)",
        r"(?P<x>.+?) (?P<y>(?:\w+er|(?:more|less) \w+) than .+)",
    ):
        found = re.fullmatch(pattern, text, re.I)
        if found and parse_noun(found["x"]):
            return found["x"], found["y"]
    words = text.split()
    lowered = [word.strip(",.").casefold() for word in words]
    cut = len(words)
    while cut > 1 and (is_quality(lowered[cut - 1]) or lowered[cut - 1] in DEGREES | {"and", "a", "bit"}):
        cut -= 1
    # "the old rose pink": an object keeps a noun, if need be one that is also a colour.
    while cut < len(words) - 1 and all(word in PLAIN_RESULTS | DETERMINERS | DEGREES for word in lowered[:cut]):
        cut += 1
    while cut < len(words) and lowered[cut] in {"and"}:
        cut += 1
    # "the man in black older": a preposition keeps its noun.
    while cut < len(words) and lowered[cut - 1] in PREPOSITIONS:
        cut += 1
    object_, result = " ".join(words[:cut]).rstrip(","), " ".join(words[cut:])
    if not any(is_quality(word) for word in words_of(result)) or lowered[cut - 1] == "and":
        return None
    return (object_, result) if parse_noun(object_) else None


def is_all_quality(text: str) -> bool:
    """Whether a text only says how something is: `bright red`, `a darker shade of blue`, `made of glass`."""
    text = re.sub(r"^(?:made )?(?:out )?of ", "", text.strip(), flags=re.I)
    text = re.sub(r"^an? (?=.*\b(?:colou?r|shade|tone|tint|hue|finish)\b)", "", text, flags=re.I)
    text = re.sub(r"\b(?:in )?(?:colou?r(?:ed)?|shade|tone|tint|hue|finish|material)\b(?: of)?", "", text, flags=re.I)
    words = words_of(text)
    allowed = DEGREES | {"and", "with", "but"}
    return bool(words) and all(is_quality(w) or w in allowed for w in words) and any(is_quality(w) for w in words)


def plain_quality(text: str) -> str:
    """A quality as it stands before a noun: `a little bit darker` gives `darker`."""
    if "same" in words_of(text):
        return re.sub(r"^(?:in )?(?:an? |the )?same", "in the same", text.strip(), flags=re.I)
    text = re.sub(r"\b(?:a )?(?:shade|tone|tint|hue|finish|colou?r(?:ed)?|material)\b(?: of)?", "", text, flags=re.I)
    text = re.sub(
        r"\b(?:a (?:little |tiny )?bit|a lot|a little|far|even|quite|really|completely|fully)\b", "", text, flags=re.I
    )
    text = re.sub(r"^(?:to be |be |made |out |of |in |an? |the |look(?:ing)? |into )+", "", text.strip(), flags=re.I)
    text = re.sub(r"^(?:twice|three times|\d+ times) as \w+", "much larger", text.strip(), flags=re.I)
    text = re.sub(r"^half as \w+", "much smaller", text, flags=re.I)
    return " ".join(re.sub(r" than .*$", "", text).split()).strip(" ,.!?")


def qualify(noun: Noun, quality: str) -> Noun:
    """Put a quality on a noun; colours take the place of colours, sizes of sizes, and so on."""
    words = words_of(quality)
    kinds = [kind for kind in (*_OPPOSED,) if any(word in kind for word in words)]
    kept: list[str] = []
    at: int | None = None
    for word in noun.modifiers:
        plain = word.casefold().strip(",")
        if any(plain in kind for kind in kinds) or (
            plain in {"and", "light", "dark", "bright"} and kinds[:1] == [_HUES]
        ):
            at = len(kept) if at is None else at
        else:
            kept.append(word)
    if at is None:
        rank = max((_rank(word) for word in words), default=0)
        at = sum(1 for word in kept if _stands_before(word, rank))
    return replace(noun, modifiers=(*kept[:at], *quality.split(), *kept[at:]))


_HUES = COLORS | NOUN_COLORS
_SURFACES = frozenset({"shiny", "matte", "matt", "glossy", "dull", "rough", "smooth", "metallic", "polished"})
_STUFFS = MATERIALS | frozenset({"wooden", "golden", "metallic", "woolen", "woollen", "silver", "gold"})
_OPPOSED = (
    _HUES,
    SIZES,
    _SURFACES,
    _STUFFS,
    frozenset({"old", "older", "young", "younger", "new", "newer"}),
    frozenset({"happy", "sad", "angry"}),
    frozenset({"dark", "darker", "bright", "brighter", "light", "lighter"}),
    frozenset({"open", "closed"}),
    frozenset({"clean", "dirty"}),
    frozenset({"wet", "dry"}),
    frozenset({"curly", "straight"}),
    frozenset({"full", "empty"}),
    frozenset({"sunny", "cloudy", "rainy", "snowy", "stormy", "foggy"}),
)
"""Qualities of one set exclude each other."""


def _rank(word: str) -> int:
    word = word.casefold()
    for rank, kind in enumerate(_ORDER):
        if word in kind:
            return rank
    return 0


def _stands_before(word: str, rank: int) -> bool:
    plain = word.casefold()
    if plain.endswith(("'s", "s'", "most")) or plain in ORDINALS | NUMBERS | PLACES | ARTICLES:
        return True
    # A comparative comes first: "a bigger red cube". Unknown words are nouns of a compound: "coffee cup".
    return (is_quality(plain) and _rank(plain) < rank) or (plain in SIZES and rank > 0)


def agree(noun: Noun, like: Noun) -> Noun:
    """The result of a replacement with the owner and the place of what it replaces."""
    after = noun.after
    if not after and like.locates:
        after = like.after
    owner = like.modifiers[: like.owner.count(" ") + 1] if like.owner and not noun.owner else ()
    return replace(noun, modifiers=(*owner, *noun.modifiers), after=after)


def many(noun: Noun) -> bool:
    """Whether the phrase means several things."""
    return is_plural(noun.head)
