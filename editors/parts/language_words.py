"""The words that the rules of language know, and the little morphology that captions need."""

import re

COLORS = frozenset(
    "red green blue yellow purple cyan white black orange pink brown gray grey golden teal turquoise magenta "
    "maroon beige navy crimson scarlet indigo blonde blond colorful colourful multicolored rainbow-colored pale "
    "neon pastel light-blue dark-blue reddish bluish greenish yellowish brownish greyish grayish silvery".split()
)
NOUN_COLORS = frozenset(
    "gold silver violet lavender peach olive mint coral cream ivory lime rose plum salmon mustard amber burgundy "
    "khaki charcoal copper emerald ruby fuchsia tan aqua bronze chocolate".split()
)
"""Colours that are also things; they count as a colour only where a noun is left without them."""
SIZES = frozenset(
    "big bigger biggest large larger largest small smaller smallest tall taller short shorter wide wider narrow "
    "narrower tiny tinier huge giant gigantic enormous little thin thinner thick thicker long longer high higher "
    "low lower fat fatter slim slimmer massive miniature medium medium-sized".split()
)
FINISHES = frozenset(
    "shiny shinier matte matt glossy dull rough smooth smoother polished reflective transparent translucent "
    "metallic wooden golden woolen woollen rusty frosted marbled".split()
)
MATERIALS = frozenset(
    "metal wood glass leather rubber plastic stone marble brick concrete steel iron chrome velvet silk denim "
    "cotton wool paper clay ceramic porcelain crystal ice lego knitted straw bamboo cardboard felt lace linen".split()
)
"""Materials that are also things."""
QUALITIES = frozenset(
    "old older young younger happy happier sad sadder angry angrier dark darker bright brighter light lighter new "
    "newer clean dirty wet dry open closed empty full broken curly curlier straight spiky fluffy fluffier furry "
    "bald bearded snowy sunny cloudy rainy foggy stormy misty round flat striped spotted checkered plaid "
    "asleep awake elegant modern vintage futuristic antique lush barren frozen burning blurry sharp warm warmer "
    "cold colder cool scary cute clear calm quiet peaceful nice plain simple wild busy soft hard heavy strong "
    "weak thin beautiful pretty ugly messy tidy muscular joyful cheerful graceful playful powerful wonderful "
    "chubby skinny handsome royal medieval".split()
)
PLAIN_RESULTS = COLORS | SIZES | FINISHES | QUALITIES | {"metal", "gold", "silver"}
"""What an object can be made, by words that are no things themselves (or hardly)."""
RESULTS = PLAIN_RESULTS | NOUN_COLORS | MATERIALS
DEGREES = frozenset(
    "much more most very slightly little bit even far too really quite extremely somewhat lot completely entirely "
    "less pure deep solid dark light bright pale fully totally".split()
)
ARTICLES = frozenset("a an the".split())
DETERMINERS = ARTICLES | frozenset(
    "all every each both any some my your his her its our their this that these those".split()
)
PERSONAL = frozenset("it its him his her them their he she they".split())
PRONOUNS = PERSONAL | frozenset("this that these those one".split())
PREPOSITIONS = frozenset(
    "on onto upon in into inside at of off behind above below under underneath beneath near nearby beside besides "
    "between by with without from to over across around outside against along among amid opposite atop through "
    "toward towards next".split()
)
RELATIVES = frozenset("that which who whose where".split())
PARTICIPLES = frozenset(
    "made covered painted surrounded dressed parked seated shown located facing hung called".split()
)
ING_NOUNS = frozenset(
    "building painting ceiling ring king wing string thing evening clothing railing drawing earring swing spring "
    "lightning morning sibling duckling gosling dumpling wedding paving flooring lighting icing bedding awning "
    "living dining something everything anything nothing washing swimming parking sling viking pudding".split()
)
Y_NOUNS = frozenset(
    "sky boy girl baby lady toy body city bunny puppy kitty pony berry cherry strawberry story party key monkey "
    "donkey bay tray clay candy butterfly fly family country valley guy daisy lily ivy jersey trophy battery "
    "teddy day play display bowtie highway jelly library doggy ruby alley chimney balcony turkey jay ray spray "
    "belly ferry lorry landing artery dolly canopy cowboy embassy county ivory burgundy may way runway driveway "
    "hallway railway".split()
)
GENERIC = frozenset("thing object one shape item ones things objects".split())
"""Nouns that say nothing of their object."""
SYNONYMS = (
    frozenset({"ball", "sphere"}),
    frozenset({"cube", "block", "box"}),
    frozenset({"photo", "picture", "image", "photograph"}),
    frozenset({"sofa", "couch"}),
    frozenset({"bike", "bicycle"}),
    frozenset({"cat", "kitten"}),
    frozenset({"dog", "puppy"}),
    frozenset({"man", "guy"}),
    frozenset({"woman", "lady"}),
    frozenset({"kid", "child"}),
    frozenset({"tv", "television"}),
    frozenset({"motorbike", "motorcycle"}),
    frozenset({"cup", "mug"}),
    frozenset({"car", "automobile"}),
)
UNIQUE = frozenset("sky sun moon background ground foreground ocean sea horizon".split())
"""Things there is one of, named with `the`."""
UNCOUNTED = frozenset(
    "hair grass water snow sand furniture clothing jewelry jewellery ice milk bread fur makeup food smoke fire "
    "fog rain ivy foliage graffiti moss lightning wood metal wine coffee tea beer juice soup honey paint blood dirt "
    "dust cream traffic lipstick frost mud mist steam light gold".split()
)
PLURALS = frozenset(
    "people men women children mice feet teeth geese sheep fish glasses sunglasses pants jeans trousers shorts "
    "clothes scissors headphones leaves kids".split()
)
SINGULARS = {"people": "person", "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth"}
_SINGULAR_S = frozenset("lens gas atlas christmas canvas iris bus cactus cosmos chaos always".split())
PLACES = frozenset(
    "left right middle center centre front back top bottom corner background foreground side edge far rear "
    "distance leftmost rightmost".split()
)
"""Words that say where in the picture, and name no thing."""
PICTURES = frozenset("picture image photo photograph scene shot painting pic frame drawing view".split())
WORN = frozenset(
    "hat cap crown scarf glasses sunglasses tie bow bowtie helmet coat jacket shirt dress suit necklace earrings "
    "mask collar gloves shoes boots hoodie sweater cape beanie tiara backpack uniform vest apron bandana goggles "
    "headphones costume robe raincoat skirt jeans monocle earring ring bracelet watch sombrero beret turban "
    "veil".split()
)
WEARERS = frozenset(
    "man woman boy girl person child kid baby lady guy dog cat puppy kitten bear horse he she him her they them "
    "people men women children kids rider bride groom statue snowman teddy panda rabbit bunny monkey king queen "
    "chef player singer dancer teacher student farmer soldier driver grandmother grandfather mother father son "
    "daughter".split()
)

ADDED = frozenset("add insert put place draw".split())
"""Verbs that can only mean that something new appears."""
NUMBERS = frozenset("two three four five six seven eight nine ten several many few".split())
ORDINALS = frozenset("first second third fourth fifth last middle other".split())
ACTIONS = frozenset(
    "smile laugh cry sleep jump run walk sit stand dance wave fly sing frown wink glow shine burn melt bloom "
    "blink swim float yawn ride eat read drink play lie face kneel point hug kiss look bark roar fall rise spin "
    "roll".split()
)
"""What an object can be made to do."""


def words_of(text: str) -> list[str]:
    """The words of a text, without punctuation around them, lower-case."""
    return [word.casefold() for word in re.findall(r"[\w'%-]+", text)]


def is_quality(word: str) -> bool:
    """Whether a word says how something is, rather than what."""
    word = word.casefold()
    if word in RESULTS or word.removesuffix("-ish") in COLORS or "-colored" in word or "-coloured" in word:
        return True
    if word in Y_NOUNS or len(word) < 5:
        return False
    return word.endswith(("y", "ous", "ish", "less")) or (word.endswith("er") and word[:-2] in RESULTS)


def is_plural(noun: str) -> bool:
    """Whether a noun means several."""
    noun = noun.casefold()
    if noun in PLURALS:
        return True
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is", "'s")) and noun not in _SINGULAR_S


def singular(noun: str) -> str:
    """The noun for one thing; a noun that is the same for several stays."""
    noun = noun.casefold()
    if noun in SINGULARS:
        return SINGULARS[noun]
    if noun in PLURALS or not is_plural(noun):
        return noun
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    return noun[:-2] if noun.endswith(("ches", "shes", "xes", "sses")) else noun[:-1]


def forms_of(noun: str) -> set[str]:
    """The noun in one and in many, and other names of the same thing."""
    single = singular(noun)
    names = {single}.union(*(group for group in SYNONYMS if single in group))
    many = {name for name, one in SINGULARS.items() if one in names}
    for name in names:
        many.add(name[:-1] + "ies" if re.search(r"[^aeiou]y$", name) else name + "s")
        many.add(name + "es")
    return names | many | {noun.casefold()}


def with_article(phrase: str, noun: str) -> str:
    """A noun phrase with `a`, `an`, `the` or nothing, as its noun asks for."""
    first = phrase.split(maxsplit=1)[0].casefold() if phrase.split() else ""
    owners = re.search(r"'s\b", phrase[: phrase.find(noun)]) is not None
    if first.isdigit() or first in NUMBERS or first in DETERMINERS | {"no"}:
        return phrase
    if not owners and (is_plural(noun) or noun.casefold() in UNCOUNTED):
        return phrase
    superlative = first in ORDINALS or first.endswith("most") or (first.endswith("est") and first in SIZES)
    if (not owners and noun.casefold() in UNIQUE) or superlative or first == "same":
        return f"the {phrase}"
    return f"{indefinite(first)} {phrase}"


def indefinite(word: str) -> str:
    """`a` or `an`, as the word sounds."""
    vowel = re.match(r"(?!uni|use|eu|one\b|ubi)[aeiou]|hour|honest|heir", word.casefold()) is not None
    return "an" if vowel else "a"


def gerund(verb: str) -> str:
    """`smile` gives `smiling`."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
        return verb[:-1] + "ing"
    if re.fullmatch(r"[^aeiou]*[aeiou][bdgmnprt]", verb):
        return verb + verb[-1] + "ing"
    return verb + "ing"
