"""From what a user types to bare clauses: courtesies are dropped, and several requests in one text are taken apart."""

import re

from .language_words import ADDED, DETERMINERS, NUMBERS, PRONOUNS, gerund

REPLACING = "replace substitute swap exchange switch trade".split()
TURNING = "turn change convert transform morph alter modify shift make".split()
COLORING = "color colour paint dye tint recolor recolour repaint stain spray-paint".split()
MAKING = "make turn render get set have keep let change".split()
REMOVING = "remove delete erase eliminate drop hide omit lose cut discard clear wipe ditch scrap exclude vanish".split()
ADDING = [*ADDED, *"attach include stick hang set position drop introduce paint stand lay mount".split()]
GIVING = "give grant offer".split()
DRESSING = "dress cover fill wrap decorate adorn top equip surround coat".split()
CHANGED = {
    "enlarge": "larger", "shrink": "smaller", "darken": "darker", "brighten": "brighter", "lighten": "lighter",
    "widen": "wider", "shorten": "shorter", "lengthen": "longer", "blur": "blurry", "thicken": "thicker",
    "whiten": "whiter", "polish": "shiny", "flatten": "flat", "sharpen": "sharper", "blacken": "black", "age": "older",
    "narrow": "narrower", "straighten": "straight", "smoothen": "smooth", "magnify": "larger", "rejuvenate": "younger",
    "clean": "clean", "open": "open", "close": "closed", "freeze": "frozen", "melt": "melted", "break": "broken",
    "soften": "softer", "curl": "curly", "gild": "golden", "elongate": "longer", "rust": "rusty", "fade": "faded",
}  # fmt: skip
"""Verbs that name what an object becomes."""
_AMBIGUOUS = frozenset(
    "color colour paint place dress cover cut top stick set stand coat frame light hide position clear fill tint dye "
    "stain open close age clean drop change switch swap turn make trade polish shift hang draw rust fade curl keep lay "
    "mount break wrap offer let have get narrow lose ditch scrap".split()
)
"""Verbs that are also nouns or adjectives, or need what follows to be sure."""
_OTHERS = "take get scale resize reduce increase decrease double".split()
_VERBS = frozenset(
    [*REPLACING, *TURNING, *COLORING, *MAKING, *REMOVING, *ADDING, *GIVING, *DRESSING, *CHANGED, *_OTHERS]
)
_GERUNDS = {gerund(verb): verb for verb in _VERBS} | {"putting": "put", "getting": "get", "setting": "set"}

_LEAD = re.compile(
    r"^(?:(?:hey|hi|hello|ok|okay|so|well|please|pls|kindly|now|first(?:ly)?|then|and|also|next|finally|lastly|after "
    r"that|maybe|perhaps|just|simply|secondly|additionally|plus|but|i think|i guess|actually|quickly)\b[\s,:]*"
    r"|(?:can|could|would|will|may|might|do) (?:you|we|i|u)(?: (?:please|kindly|maybe|perhaps|possibly|just|also|then|"
    r"mind|try to|help me(?: to)?|be so kind(?: as)? to|be able to|go ahead and))*\s+"
    r"|(?:i|we)(?:'d| would)?(?: really)? (?:want|like|love|need|prefer|wish)(?: for)?(?: you)? to\s+"
    r"|(?:let's|lets|let us|try to|go ahead and|be so kind(?: as)? to|is it possible to|it possible to|feel free to|"
    r"you should|you could|you can|(?:your|the) task is to|help me(?: to)?)\s+"
    r"|(?:how|what) about\s+|(?:in|on) (?:this|the) (?:image|picture|photo|scene)\b[\s,:]*)",
    re.I,
)
_TRAIL = re.compile(
    r"(?:[\s,]*\b(?:please|pls|for me|thanks|thank you|thx|if (?:you can|possible|you could)|would you|will you|"
    r"can you|too|as well|instead|somehow|okay|ok|in (?:this|the) (?:image|picture|photo|photograph)|from (?:this|the) "
    r"(?:image|picture|photo|photograph|scene))|\s*[.!?,;:]+)$",
    re.I,
)
QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
"""Quotes of print as those of a keyboard."""
_JOINT = re.compile(
    r"\s*,\s*(?:and\s+|but\s+|plus\s+)?(?:then\s+|also\s+)*|\s+(?:and|but|plus|while)\s+(?:then\s+|also\s+)*|\s+then\s+"
    r"|\s*&\s*",
    re.I,
)
_STATED = re.compile(
    r"(?:the|all|every|each|both|my|your|his|her|its|their|this|that|these|those|it|there|everything|\w+'s)\b"
    r"(?:(?!,| and ).)*\b(?:should|must|needs? to|has to|have to|ought to|to be|could be)\b|"
    r"(?:i|we)(?:'d| would)? (?:want|like|love|need|prefer|don't|do not)\b|let (?:the|him|her|it)\b|"
    r"(?:can|could|would) you\b|instead\b|there (?:should|must)",
    re.I,
)


def strip_courtesy(text: str) -> str:
    """A request without `could you please` before and `, thanks` after it."""
    text = " ".join(text.split()).strip(" ,")
    previous = None
    while text != previous:
        previous = text
        text = _TRAIL.sub("", _LEAD.sub("", text, count=1)).strip(" ,-")
    first, _, rest = text.partition(" ")
    return f"{_GERUNDS[first.casefold()]} {rest}" if first.casefold() in _GERUNDS and rest else text


def split_clauses(text: str) -> list[str]:
    """The requests of a text, each bare of courtesies.

    A text is split at the ends of sentences, and at commas and conjunctions only where another request begins.
    """
    text = text.translate(QUOTES)
    clauses: list[str] = []
    for sentence in re.split(r"[;\n]+|[.!?]+(?=\s|$)", text):
        start = 0
        for joint in _JOINT.finditer(sentence):
            if joint.start() > start and begins_request(sentence[joint.end() :]):
                clauses.append(sentence[start : joint.start()])
                start = joint.end()
        clauses.append(sentence[start:])
    bare = [strip_courtesy(clause) for clause in clauses]
    return [clause for clause in bare if re.search(r"\w", clause)]


def begins_request(text: str) -> bool:
    """Whether a text begins with a verb of editing and its object, or states how something should be."""
    if _STATED.match(text):
        return True
    words = [word.casefold().strip(",") for word in strip_courtesy(text).split()]
    if len(words) < 2 or words[0] not in _VERBS or words[1] in {"of", "and"}:
        return False
    if words[0] not in _AMBIGUOUS:
        return True
    return words[1] in DETERMINERS | PRONOUNS | NUMBERS | {"rid", "on", "off", "out", "everything"} or "'s" in words[1]
