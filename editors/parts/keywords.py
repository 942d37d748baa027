"""Which words of an instruction name the thing to edit or to add, when nobody says so.

FoI (arXiv 2312.10113) names keywords by hand or by a language model; this rule needs nothing. It understands
"<verb> [the] THING <preposition or result> ..." and falls back to the last noun-like words.
"""

import re

from .language_words import ADDED, DEGREES, PERSONAL, PLAIN_RESULTS, PREPOSITIONS, RELATIVES

_VERBS = frozenset(
    "make turn change paint color colour dye recolor replace remove delete erase take get rid give put add insert "
    "place have let set transform convert edit swap draw cover wrap render show what would as if were was he she they "
    "be look like could should please can you the a an this that these those some all every each and".split()
)
_PARTICLES = frozenset("away out off up".split())
_STOPS = (
    PREPOSITIONS | RELATIVES | frozenset("wear wearing look looks become becomes so and as using top front".split())
)
_ADDING = ADDED | {"give"}


def choose_keyword(text: str) -> str:
    """The words of an instruction that name its object, spelled as in the text.

    "make the red cube blue" gives "red cube", "turn him into a clown" gives "him", "add a hat to the bear" gives "hat".
    """
    words = re.findall(r"[\w'-]+", text)
    lowered = [word.casefold() for word in words]
    start = 0
    while start < len(words) and lowered[start] in _VERBS | _PARTICLES | PERSONAL:
        start += 1
    if 0 < start < len(words) and lowered[start - 1] in PERSONAL and lowered[start] in _STOPS:
        return words[start - 1]
    # "change the color of the cube to red", "put on a hat": the name comes after the small words.
    while start < len(words) and lowered[start] in _VERBS | _STOPS:
        start += 1
    if start == len(words):
        return words[-1] if words else text.strip()
    end = start
    while end < len(words) and lowered[end] not in _STOPS | _PARTICLES:
        end += 1
    adding = any(word in _ADDING for word in lowered[:start])
    # "make the red cube blue": what the thing becomes is not part of its name, what stands before the noun is.
    while not adding and end - start > 1 and lowered[end - 1] in PLAIN_RESULTS | DEGREES | {"a", "an", "the"}:
        end -= 1
    chosen = words[start:end]
    match = re.search(r"\W+".join(re.escape(word) for word in chosen), text)
    return match.group(0) if match else chosen[-1]
