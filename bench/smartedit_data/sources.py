"""All sets by name, and how often SmartEdit draws from each (arXiv 2312.06739, released code)."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ...editors import InputError, SampleSource
from .captions import open_captions
from .cocostuff import CocoStuff
from .llava import Llava
from .pairs import open_instructpix2pix, open_magicbrush, open_synthetic
from .reasonseg import ReasonSeg
from .referring import Referring

SOURCES: dict[str, Callable[[Path], SampleSource]] = {
    "cc12m": open_captions,
    "instructpix2pix": open_instructpix2pix,
    "magicbrush": open_magicbrush,
    "cocostuff": CocoStuff,
    "refcoco": lambda root: Referring(root, "refcoco"),
    "grefcoco": lambda root: Referring(root, "grefcoco"),
    "reasonseg": ReasonSeg,
    "llava": Llava,
    "synthetic": open_synthetic,
}
"""How each set is opened."""
SYNTHETIC_SHARE = 0.15
"""How often a synthetic pair is drawn."""
REASONSEG_SHARE = 0.1
"""How often, where it is none, a sample of ReasonSeg is."""
_EDITING = ("magicbrush", "instructpix2pix")
_BY_SIZE = ("llava", "cocostuff", "refcoco", "grefcoco")


def open_sources(paths: Mapping[str, Path]) -> dict[str, SampleSource]:
    """Open sets where they were downloaded to; they are indexed at once, pictures are read when drawn.

    Args:
        paths: folder (or list file) of each, by a name of `SOURCES`.

    Raises:
        InputError: if a name is unknown, or a set is missing or damaged.
        MissingExtraError: if a set is in tables and pyarrow is not installed.
    """
    for name, path in paths.items():
        if name not in SOURCES:
            raise InputError(f"expected the name of a set ({', '.join(SOURCES)}), got {name!r}: correct the name")
        if not path.exists():
            raise InputError(f"expected the set {name} at {path}, found nothing there: download it, or leave it out")
    return {name: SOURCES[name](path) for name, path in paths.items()}


def published_shares(sources: Mapping[str, SampleSource]) -> dict[str, float]:
    """How often each set of the second stage is drawn from; they add up to 1.

    A synthetic pair in 15 % of draws; else ReasonSeg in 10 %; else talks, editing and segmentation by size, where
    MagicBrush and InstructPix2Pix take turns. A set that is not there leaves its share to the others. Captions belong
    to the first stage, and have a share only where they are alone.

    Differs from the published code: by size, that counts synthetic pairs as editing and ReasonSeg as segmentation as
    well, which moves some tenths of a percent.

    Args:
        sources: by a name of `SOURCES`.

    Raises:
        InputError: if a name is unknown, or there are no sets.
    """
    unknown = [name for name in sources if name not in SOURCES]
    if unknown or not sources:
        got = f"got {unknown[0]!r}" if unknown else "got none"
        raise InputError(f"shares are published for {', '.join(SOURCES)} only, {got}: give shares of your own")
    if set(sources) == {"cc12m"}:
        return {"cc12m": 1.0}
    shares: dict[str, float] = {}
    rest = 1.0
    waiting = [name for name in SOURCES if name in sources and name != "cc12m"]
    for name, part in (("synthetic", SYNTHETIC_SHARE), ("reasonseg", REASONSEG_SHARE)):
        if name in waiting:
            waiting.remove(name)
            shares[name] = rest * (part if waiting else 1.0)
            rest -= shares[name]
    editing = [name for name in _EDITING if name in sources]
    sizes = {name: len(sources[name]) for name in waiting}
    total = sum(sizes.values())
    pairs = sum(sizes[name] for name in editing)
    shares |= {name: rest * pairs / total / len(editing) for name in editing}
    shares |= {name: rest * sizes[name] / total for name in _BY_SIZE if name in sizes}
    return {name: shares[name] for name in sources if name in shares}


def describe_shares(sources: Mapping[str, SampleSource]) -> str:
    """One line: how often each set is drawn from, and which are not there.

    Args:
        sources: by a name of `SOURCES`.
    """
    shares = published_shares(sources)
    shown = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    missing = [name for name in SOURCES if name not in sources and name != "cc12m"]
    if "cc12m" in shares or not missing:
        return f"drawn from: {shown}"
    return f"drawn from: {shown}; not there: {', '.join(missing)}, whose shares go to the others"
