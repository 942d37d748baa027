"""The grammar of one request: which words name the object, which say what becomes of it."""

import re

from .language_change import Change, become, predicate
from .language_making import imagined, make_list, make_one, making
from .language_phrases import group_list, is_all_quality, parse_noun, split_quality
from .language_requests import LINK, add, addition, dressing, gift, removal, remove, replacement, resize

_GONE = r"(?:gone|removed|deleted|erased|invisible|taken (?:away|out)|hidden|absent|not (?:be )?(?:there|here|visible))"


_WISHES = (
    r"(?:(?:i|we)(?:'d| would)? (?:really )?(?:want|need|like|love|prefer|wish)(?: for)?(?: to (?:see|have))?|let|have|"
    r"i think|see to it that|make sure(?: that)?|it (?:would|'d) be (?:nice|great|cool|good|better|lovely|awesome) if|"
    r"what if|imagine(?: that)?|suppose|show|show me)"
)


_BEING = (
    r"(?:to be|be|being|was|were|is|are|to become|become|became|to turn|turn(?:ed)? into|to turn into|to appear|to look|"
    r"look(?:ed)?|to have|have|had|has|to get|get|got|to wear|wear|wore|wearing|to hold|hold|holding|to carry|carry)"
)


def parse_clause(clause: str) -> list[Change]:
    """The edits of one bare request; empty where it is none."""
    for rule in (_instead, _wish, removal, addition, gift, dressing, replacement, resize, making, imagined):
        if changes := rule(clause):
            single = len(changes) == 1
            return [Change(**{**vars(c), "text": clause if single else c.text or clause}) for c in changes]
    return []


def _instead(clause: str) -> list[Change]:
    """`have a typewriter instead of the laptop`, `put a cat where the dog is`."""
    found = re.fullmatch(
        r"(?:(?:put|use|have|show|draw|add|place|get|see|give me|i(?:'d| would)?(?: rather)? (?:want|like|prefer|have|love)"
        r"(?: to (?:have|see))?|there should be|make it|make that|there is) )?(?P<y>.+?) "
        r"(?:instead of|in place of|rather than|in lieu of) (?P<x>.+)",
        clause,
        re.I,
    ) or re.fullmatch(r"(?:put|draw|add|place) (?P<y>.+?) where (?P<x>.+?) (?:is|are|was|were)", clause, re.I)
    if found and (quality := split_quality(found["y"])) and is_all_quality(found["x"]):
        return [Change(kind="modify", objects=quality[0], result=quality[1])]
    return [become(found["x"], found["y"], noun=True)] if found and parse_noun(found["x"]) else []


def _wish(clause: str) -> list[Change]:
    """`I want the sky to be pink`, `the car should be red`, `there should be no clouds`."""
    if found := re.fullmatch(
        r"(?:(?:i|we) (?:don't|do not|no longer|wouldn't) (?:want|need|like)(?: to see)?|there (?:should|must) be no(?: more)?|"
        r"(?:there )?should(?:n't| not) be(?: any)?|there (?:shouldn't|should not) be(?: any)?|"
        rf"{_WISHES} no(?: more)?|no more) (?P<x>.+?)(?: (?:there|here|anymore|any ?more))?",
        clause,
        re.I,
    ):
        return remove(found["x"])
    if found := re.fullmatch(
        rf"(?P<x>.+?) (?:should(?:n't| not)|must not) (?:be (?:there|here|visible)|exist)|"
        rf"(?P<y>.+?) (?:should|must|needs? to|has to|have to|ought to) (?:be {_GONE}|go(?: away)?|disappear|vanish)|"
        rf"{_WISHES} (?P<z>.+?) (?:(?:to )?(?:be )?{_GONE}|to (?:go|disappear|vanish))",
        clause,
        re.I,
    ):
        return remove(found["x"] or found["y"] or found["z"])
    if found := re.fullmatch(
        r"(?:there should be|there must be|i(?:'d| would)? (?:want|like|need)) (?P<x>.+)", clause, re.I
    ):
        if not re.search(rf" {_BEING} ", clause) and (changes := add(found["x"])) and changes[0].objects:
            if LINK.match(found["x"]) and not is_all_quality(LINK.match(found["x"])["y"]):
                return changes
    found = re.fullmatch(
        rf"(?P<x>.+?) (?:should|must|needs? to|has to|have to|ought to|shall)(?: now| rather| all)? (?P<v>{_BEING}) (?P<y>.+)",
        clause,
        re.I,
    ) or re.fullmatch(rf"{_WISHES} (?P<x>.+?) (?P<v>{_BEING}) (?P<y>.+)", clause, re.I)
    if not found:
        found = re.fullmatch(rf"{_WISHES} (?P<x>.+?) (?P<v>in|as) (?P<y>.+)", clause, re.I)
        if not found or (found["v"].lower() == "in" and not is_all_quality(found["y"])):
            found = re.fullmatch(rf"{_WISHES} (?P<z>.+)", clause, re.I)
            return make_list(found["z"], "make") if found else []
    items = group_list(f"{found['x']} {found['v']} {found['y']}", lambda item: _state(item, found["v"]) is not None)
    states = [_state(item, found["v"]) or make_one(item, "make") for item in items]
    if len(items) == 1:
        states = [predicate(found["x"], found["v"], found["y"])]
    return [s for s in states if s] if all(states) else []


def _state(item: str, verb: str) -> Change | None:
    found = re.fullmatch(rf"(?P<x>.+?) (?P<v>{_BEING}|as) (?P<y>.+)", item, re.I)
    if found:
        return predicate(found["x"], found["v"], found["y"])
    return make_one(item, "make") if re.match(r"(?:to )?be$", verb, re.I) else None
