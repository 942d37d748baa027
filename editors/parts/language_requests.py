"""Requests that begin with what to do: replace, remove, add, give, dress, enlarge."""

import re
from collections.abc import Sequence
from dataclasses import replace

from .language_change import Change, become, is_one_of, predicate, strip_trait
from .language_clauses import ADDING, CHANGED, COLORING, DRESSING, GIVING, REMOVING, REPLACING, TURNING
from .language_phrases import group_list, parse_list, parse_noun, split_quality
from .language_words import DETERMINERS, PICTURES, PLACES, WEARERS, WORN, is_quality, words_of

_LINKS = (
    "on top of|in front of|on the (?:left|right|back|front|top|side|edge)(?: side)? of|"
    "to the (?:left|right)(?: side)? of|at the (?:top|bottom|side|edge|foot) of|"
    "in the (?:middle|center|centre|corner|background|foreground|back|front) of|"
    "next to|close to|left of|right of|onto|into|inside|on|upon|to|in|at|over|above|underneath|under|below|behind|"
    "beside|near|between|around|beneath|by|along|across|against|for"
)


LINK = re.compile(rf"^(?P<x>.+?) (?P<link>{_LINKS}) (?P<y>.+)$", re.I)


_TO_LINK = re.compile(
    r"^(?P<x>.+?) (?P<link>(?<!next )(?<!close )to) (?P<y>(?!the (?:left|right)(?: side)? of\b).+)$", re.I
)


def verbs(words: Sequence[str], *particles: str) -> str:
    """A pattern for one of these verbs and its particle."""
    return rf"(?:{'|'.join(words)})(?: (?:{'|'.join(particles)}))?" if particles else rf"(?:{'|'.join(words)})"


def removal(clause: str) -> list[Change]:
    """`remove the cup from the table`, `take the hat off`."""
    found = re.fullmatch(
        rf"(?:{verbs(REMOVING, 'away', 'out', 'off')}|take (?:away|off|out|down)|get rid of|do away with|throw (?:out|"
        r"away)|cut out|crop out|edit out|photoshop out|paint out|clean up|clear away|wipe (?:off|out|away)) (?P<x>.+)"
        r"|(?:take|cut|crop|edit|throw|wipe|photoshop) (?P<y>.+?) (?:away|off|out|down)(?P<tail> (?:of|from) .+)?"
        r"|(?:take|wipe|clear|clean) (?P<z>.+? (?:from|off|out of) .+)",
        clause,
        re.I,
    )
    return remove(found["x"] or found["z"] or found["y"] + (found["tail"] or "")) if found else []


def remove(objects: str) -> list[Change]:
    """The edit that removes objects, with what they are taken from."""
    if found := re.fullmatch(r"(?P<x>.+?) (?P<link>from|off(?: of)?|out of) (?P<y>.+)", objects, re.I):
        thing, place = found["x"], found["y"]
        if not {*words_of(place)} <= PICTURES | DETERMINERS | PLACES | {"of"}:
            link = "with" if is_one_of(place, WEARERS) else "in" if found["link"].lower().startswith("out") else "on"
            return [Change(kind="remove", objects=thing, place=place, link=link)] if parse_list(thing) else []
        objects = thing if {*words_of(place)} & PICTURES else objects
    objects = re.sub(r" (?:altogether|entirely|completely)$", "", objects, flags=re.I)
    return [Change(kind="remove", objects=objects)] if parse_list(objects) else []


def addition(clause: str) -> list[Change]:
    """`add a hat to the cat and glasses to the dog`, `put a cup on the table`."""
    found = re.fullmatch(
        rf"{verbs(ADDING)}(?: (?:in|on|up|down))?(?= (?:an?|some|two|three|another|more) ) (?P<x>.+)", clause, re.I
    )
    found = found or re.fullmatch(
        rf"{verbs([w for w in ADDING if w not in COLORING])}(?P<on> on)? (?P<x>.+)", clause, re.I
    )
    if not found or (split_quality(found["x"]) and not LINK.match(found["x"])):
        return []
    return add(found["x"], clause.split(maxsplit=1)[0])


def add(rest: str, verb: str = "add") -> list[Change]:
    """The edits that add things: `a hat to the cat`."""
    prefers_to = verb.casefold() in {"add", "attach", "introduce"}

    def find(item: str) -> "re.Match[str] | None":
        return (prefers_to and _TO_LINK.match(item)) or LINK.match(item)

    items = group_list(rest, lambda item: find(item) is not None)
    changes: list[Change] = []
    for item in items:
        found = find(item)
        text = f"{verb} {item}"
        if found is None or {*words_of(found["y"])} <= PLACES - {"background", "foreground"} | DETERMINERS | {"side"}:
            changes.append(Change(kind="add", objects="", result=item, text=text))
            continue
        thing, link, carrier = found["x"], found["link"].lower(), found["y"]
        if link == "in" and is_one_of(thing, WEARERS) and is_one_of(carrier, WORN):
            thing, carrier, link = carrier, thing, "wearing"
        if link in {"to", "for", "on", "onto"}:
            link = (
                "wearing"
                if is_one_of(thing, WORN) and is_one_of(carrier, WEARERS)
                else "with"
                if link in {"to", "for"}
                else "on"
            )
        if {*words_of(carrier)} <= PICTURES | DETERMINERS:
            carrier = ""
        changes.append(Change(kind="add", objects=carrier, result=thing, link=link, text=text))
    return changes if all(parse_list(change.result) for change in changes) else []


def gift(clause: str) -> list[Change]:
    """`give the dog a hat and the cat a scarf`."""
    found = re.fullmatch(rf"{verbs(GIVING)} (?P<x>.+)|get (?P<y>.+? (?:an?|some) .+)", clause, re.I)
    if not found:
        return []
    items = group_list(found["x"] or found["y"], lambda item: _split_gift(item) is not None)
    gifts = [(_split_gift(item), item) for item in items]
    changes: list[Change] = []
    for gift, item in gifts:
        if gift is None:
            return []
        change = predicate(gift[0], "have", gift[1])
        if (
            change.kind == "add"
            and all(is_one_of(n.core, WORN) for n in parse_list(gift[1]))
            and is_one_of(gift[0], WEARERS)
        ):
            change = replace(change, link="wearing")
        changes.append(replace(change, text=f"give {item}"))
    return changes


def _split_gift(item: str) -> tuple[str, str] | None:
    if found := re.fullmatch(r"(?P<y>(?:an?|some) .+?) to (?P<x>.+)", item, re.I):
        return found["x"], found["y"]
    bounds = [m.start() for m in re.finditer(r" (?:an?|some|two|three|four|more|another|no) ", item, re.I)]
    for at in bounds:
        before = item[:at]
        if words_of(before)[-1] not in {"with", "in", "on", "of", "by", "and", "holding", "wearing"} and (
            parse_noun(before) or before.casefold() in {"him", "her", "it", "them"}
        ):
            return before, item[at + 1 :]
    words = item.split()
    if words[0].casefold() in {"him", "her", "it", "them"} and len(words) > 1:
        return words[0], " ".join(words[1:])
    least = 2 if words[0].casefold() in DETERMINERS else 1
    for at in range(least, len(words) - 1):
        if is_quality(words[at]) and not is_quality(words[at - 1]):
            return " ".join(words[:at]), " ".join(words[at:])
    return (" ".join(words[:-1]), words[-1]) if len(words) > least else None


def dressing(clause: str) -> list[Change]:
    """`dress the woman in a gown`, `cover the table with a cloth`."""
    found = re.fullmatch(
        rf"(?P<v>{'|'.join(DRESSING)}) (?:up )?(?P<x>.+?)(?: up)? (?P<link>in|with) (?P<y>.+)", clause, re.I
    )
    if not found:
        return []
    verb = found["v"].casefold()
    done = {
        "dress": "wearing",
        "top": "topped with",
        "cover": "covered in",
        "fill": "filled with",
        "wrap": "wrapped in",
    }
    return [Change(kind="add", objects=found["x"], result=found["y"], link=done.get(verb, "with"))]


def replacement(clause: str) -> list[Change]:
    """`replace the cat with a dog and the sofa with a bench`, `turn the cat into a fox`."""
    if found := re.fullmatch(r"substitute (?P<y>an? .+?) for (?P<x>the .+)", clause, re.I):
        return [become(found["x"], found["y"], noun=True)]
    if found := re.fullmatch(rf"(?P<v>{verbs(REPLACING, 'out', 'over')}) (?P<x>.+)", clause, re.I):
        return _pairs(found["v"], found["x"], r"with|for|by|to|into", noun=True)
    if found := re.fullmatch(rf"(?P<v>{verbs(TURNING)}) (?P<x>.+)", clause, re.I):
        into = (
            r"into|in to" if re.search(r" (?:into|in to) ", clause, re.I) else r"to(?! the (?:left|right) of)|with|for"
        )
        if found["v"].lower() == "make" and not into.startswith("into"):
            return []
        return _pairs(found["v"], found["x"], into)
    return []


def _pairs(verb: str, rest: str, link: str, *, noun: bool = False) -> list[Change]:
    link_ = re.compile(rf"^(?P<x>.+)(?<! next)(?<! close) (?:{link}) (?P<y>.+)$", re.I)
    changes: list[Change] = []
    for item in group_list(rest, lambda item: link_.match(item) is not None):
        found = link_.match(item)
        if found is None or not found["x"].strip():
            return []
        y = re.sub(r"^be ", "", found["y"], flags=re.I)
        quality = noun and strip_trait(found["x"])[1]
        change = become(found["x"], y, noun=noun and not quality, bare=True)
        changes.append(replace(change, text=f"{verb} {item}"))
    return changes


def resize(clause: str) -> list[Change]:
    """`enlarge the cube`, `increase the size of the ball`, `turn on the lamp`."""
    up = r"(?:increase|raise|double|boost|up|grow)"
    down = r"(?:decrease|reduce|halve|lower|lessen)"
    for pattern, result in (
        (
            rf"{up} the (?:size|scale|height) of (?P<x>.+)|scale (?:up (?P<y>.+)|(?P<z>.+) up)|blow up (?P<w>.+)",
            "larger",
        ),
        (rf"{down} the (?:size|scale|height) of (?P<x>.+)|scale (?:down (?P<y>.+)|(?P<z>.+) down)", "smaller"),
        (rf"{up} (?P<x>.+?)(?:'s|s') (?:size|scale|height)", "larger"),
        (rf"{down} (?P<x>.+?)(?:'s|s') (?:size|scale|height)", "smaller"),
        (rf"{up} the brightness of (?P<x>.+)", "brighter"),
        (rf"{down} the brightness of (?P<x>.+)", "darker"),
        (r"turn on (?P<x>.+)|turn (?P<y>.+) on|light up (?P<z>.+)", "glowing"),
        (r"turn off (?P<x>.+)|turn (?P<y>.+) off", "unlit"),
        (r"set (?P<x>.+) on fire", "on fire"),
    ):
        if found := re.fullmatch(rf"(?:{pattern})", clause, re.I):
            objects = next(text for text in found.groups() if text)
            return [Change(kind="modify", objects=_without_amount(objects), result=result)]
    verb, _, rest = clause.partition(" ")
    if verb.casefold() not in CHANGED or not rest:
        return []
    rest = re.sub(r"^(?:up|down) ", "", rest, flags=re.I)
    return [Change(kind="modify", objects=_without_amount(strip_trait(rest)[0]), result=CHANGED[verb.casefold()])]


def _without_amount(objects: str) -> str:
    return re.sub(r" (?:by .+|a (?:bit|lot|little)(?: bit)?|slightly|to .+%)$", "", objects, flags=re.I)
