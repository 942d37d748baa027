"""What decides a trained part beside its tensors, as a short text: a run goes on only where that is the same."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open


def fingerprint_settings(*settings: object) -> str:
    """A text that differs where any of some settings does; recipes count field by field."""
    plain = [asdict(each) if is_dataclass(each) and not isinstance(each, type) else each for each in settings]
    return _digest(json.dumps(plain, default=str, sort_keys=True).encode())


def fingerprint_weights(places: Sequence[Path]) -> str:
    """A text that differs where any of some weights do.

    Args:
        places: safetensors files, or folders with some.
    """
    files = [path for place in places for path in (sorted(place.glob("*.safetensors")) if place.is_dir() else (place,))]
    return _digest(*(path.read_bytes() for path in files))


def identity_for(state: Path, identity: str) -> str:
    """The identity by which a run goes on from a state: its own, or none for a state of a time that kept none.

    Such a state is still refused where it holds other tensors.
    """
    try:
        with safe_open(state, framework="pt") as file:
            stored = (file.metadata() or {}).get("step", "")
    except (OSError, SafetensorError):
        # There is none, or `optimize` says what is wrong with it.
        return identity
    return identity if stored.partition(" ")[2] else ""


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for content in contents:
        digest.update(content)
    return digest.hexdigest()
