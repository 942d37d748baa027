"""The grammar of one request: which words name the object, which say what becomes of it."""

import re
from dataclasses import replace

from .language_change import Change, become, predicate
from .language_making import imagined, make_one, making
from .language_phrases import group_list, is_all_quality, parse_noun, split_quality
from .language_requests import LINK, add, addition, dressing, gift, removal, remove, replacement, resize

_GONE = r"(?:gone|removed|deleted|erased|invisible|taken (?:away|out)|hidden|absent|not (?:be )?(?:there|here|visible))"


_WISHES = (
    r"(?:(?:i|we)(?: really)?(?:(?:'d| would)(?: really)? (?:like|love|want|prefer)| want| need| prefer| wish)(?: for)?"
    r"(?: to (?:see|have))?|let|have|see to it that|make sure(?: that)?|what if|imagine(?: that)?|suppose|show(?: me)?|"
    r"it (?:would|'d) be (?:nice|great|cool|good|better|lovely|awesome) if)"
)
_BEING = (
    r"(?:to be|be|being|was|were|is|are|to become|become|became|to turn|turn(?:ed)? into|to turn into|to appear|"
    r"to look|look(?:ed)?|to have|have|had|has|to get|get|got|to wear|wear|wore|wearing|to hold|hold|holding|"
    r"to carry|carry)"
)


def parse_clause(clause: str) -> list[Change]:
    """The edits of one bare request; empty where it is none."""
    for rule in (_instead, _wish, removal, resize, addition, gift, dressing, replacement, making, imagined):
        if changes := rule(clause):
            single = len(changes) == 1
            return [replace(c, text=clause if single else c.text or clause) for c in changes]
    return []


def _instead(clause: str) -> list[Change]:
    """`have a typewriter instead of the laptop`, `put a cat where the dog is`."""
    found = re.fullmatch(
        r"(?:(?:put|use|have|show|draw|add|place|get|see|give me|i(?:'d| would)?(?: rather)? (?:want|like|prefer|"
        r"have|love)(?: to (?:have|see))?|there should be|make it|make that|there is) )?(?P<y>.+?) "
        r"(?:instead of|in place of|rather than|in lieu of) (?P<x>.+)",
        clause,
        re.I,
    ) or re.fullmatch(r"(?:put|draw|add|place) (?P<y>.+?) where (?P<x>.+?) (?:is|are|was|were)", clause, re.I)
    if found and (quality := split_quality(found["y"])) and is_all_quality(found["x"]):
        return [Change(kind="modify", objects=quality[0], result=quality[1])]
    if found is None or not (old := parse_noun(found["x"])):
        return []
    # "a blue car instead of the red one": the red car.
    new = parse_noun(found["y"])
    objects = re.sub(r"\bones?$", new.head, found["x"]) if new and old.core.endswith(("one", "ones")) else found["x"]
    return [become(objects, found["y"], noun=True)]


_MUST = r"(?:should|must|needs? to|has to|have to|ought to|shall)"
_UNWANTED = re.compile(
    r"(?:(?:(?:i|we) (?:don't|do not|no longer|wouldn't) (?:want|need|like)(?: to (?:see|have))?(?: any)?"
    r"|there (?:should|must) be no(?: more)?|there (?:shouldn't|should not) be(?: any)?"
    rf"|{_WISHES} no(?: more)?|no more) (?P<a>.+?)(?: (?:there|here|anymore|any ?more))?"
    r"|(?P<b>.+?) (?:should(?:n't| not)|must not) (?:be (?:there|here|visible)|exist)"
    rf"|(?P<c>.+?) {_MUST} (?:be {_GONE}|go(?: away)?|disappear|vanish)"
    rf"|{_WISHES} (?P<d>.+?) (?:(?:to )?(?:be )?{_GONE}|to (?:go|disappear|vanish)))",
    re.I,
)
_THERE = re.compile(rf"(?:(?:let there|there (?:should|must)) be|(?P<wish>{_WISHES})) (?P<x>.+)", re.I)
_STATED = re.compile(
    rf"(?:(?P<x>.+?) {_MUST}(?: now| rather| all)?|{_WISHES} (?P<y>.+?)"
    r"|(?:can|could|may) (?P<z>(?:the|all|my|his|her|this|that|these|those|every|both) .+?))"
    rf" (?P<v>{_BEING}) (?P<r>.+)",
    re.I,
)
_DONE_IN = re.compile(rf"{_WISHES} (?P<x>.+?) (?P<v>in|as) (?P<r>.+)", re.I)


def _wish(clause: str) -> list[Change]:
    """`I want the sky to be pink`, `the car should be red`, `there should be no clouds`."""
    if found := _UNWANTED.fullmatch(clause):
        return remove(next(text for text in found.groups() if text))
    if (found := _THERE.fullmatch(clause)) and not re.search(rf" {_BEING} ", found["x"], re.I):
        linked = LINK.match(found["x"])
        if found["wish"] is None or (linked and parse_noun(linked["x"]) and not is_all_quality(linked["y"])):
            return add(found["x"])
    if found := _STATED.fullmatch(clause):
        return _states(found["x"] or found["y"] or found["z"], found["v"], found["r"])
    if found := re.fullmatch(rf"{_WISHES} (?P<x>.+?) replaced (?:with|by) (?P<y>.+)", clause, re.I):
        return [become(found["x"], found["y"], noun=True)]
    if (found := re.fullmatch(r"(?P<x>.+?) needs? (?P<y>(?:an?|some|two) .+)", clause, re.I)) and parse_noun(
        found["x"]
    ):
        return gift(f"give {found['x']} {found['y']}")
    if (found := _DONE_IN.fullmatch(clause)) and (found["v"].lower() == "as" or is_all_quality(found["r"])):
        return _states(found["x"], found["v"], found["r"])
    if found := re.fullmatch(rf"{_WISHES} (?P<x>.+)", clause, re.I):
        items = group_list(found["x"], lambda item: make_one(item, "make") is not None)
        changes = [make_one(item, "make") for item in items]
        texts = [f"make {item}" for item in items]
        return [replace(c, text=t) for c, t in zip(changes, texts, strict=True) if c] if all(changes) else []
    return []


def _states(subject: str, verb: str, rest: str) -> list[Change]:
    """What one or several subjects are said to be: `the wall ... white and the floor black`."""
    items = group_list(f"{subject} {verb} {rest}", lambda item: _state(item, verb) is not None)
    if len(items) == 1:
        return [predicate(subject, verb, rest)]
    states = [_state(item, verb) for item in items]
    return [state for state in states if state] if all(states) else []


def _state(item: str, verb: str) -> Change | None:
    """One of several statements, with a text of its own."""
    if found := re.fullmatch(rf"(?P<x>.+?) (?:{_MUST} )?(?P<v>{_BEING}|as) (?P<y>.+)", item, re.I):
        is_ = re.fullmatch(r"(?:to )?be|was|were|is|are", found["v"], re.I)
        text = f"make {found['x']} {found['y']}" if is_ else f"{found['x']} should {found['v']} {found['y']}"
        return replace(predicate(found["x"], found["v"], found["y"]), text=text)
    change = make_one(item, "make") if re.fullmatch(r"(?:to )?be", verb, re.I) else None
    return replace(change, text=f"make {item}") if change else None
