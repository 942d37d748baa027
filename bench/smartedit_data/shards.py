"""Where the captions lie in WebDataset shards: found once, and kept in a small file for the next start.

Going through all shards of Conceptual 12M takes over an hour, reading what was found takes seconds. It lies beside each
shard as `NAME.tar.captions`, or in the user's cache where the shard's folder cannot be written. A shard of another size
or time is gone through anew.
"""

import hashlib
import os
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open

from ...editors import InputError, write_tensors

_PLACES, _SHARD = "places", "shard"


def find_captions(path: Path) -> Int64[np.ndarray, "captions 2"]:
    """First byte and length of each `.txt` in a shard, from what is kept of it where that still fits.

    Args:
        path: the shard, not packed.

    Raises:
        InputError: if it is damaged or holds no caption.
    """
    mark = _mark(path)
    kept = (path.with_name(f"{path.name}.captions"), cached_place(path))
    for place in kept:
        found = _read(place, mark)
        if found is not None:
            return found
    found = _go_through(path)
    for place in kept:
        # What is kept only saves time: where nothing can be written, the shard is gone through at every start.
        with suppress(InputError):
            tensors = {_PLACES: torch.from_numpy(found)}
            write_tensors(place, tensors, hint="free some space", metadata={_SHARD: mark}, error=InputError)
            break
    return found


def cached_place(path: Path) -> Path:
    """Where the user's cache keeps what was found in a shard."""
    # pathlib raises for a user without a home.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111
    folder = hashlib.sha1(str(path.resolve().parent).encode(), usedforsecurity=False).hexdigest()
    return cache / "maskedit" / "captions" / folder / f"{path.name}.captions"


def _mark(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}): download it again") from error
    return f"{status.st_size} {status.st_mtime_ns}"


def _read(place: Path, mark: str) -> Int64[np.ndarray, "captions 2"] | None:
    """What is kept in a file; None where it is missing, damaged or about another shard."""
    try:
        with safe_open(place, framework="np") as file:
            if (file.metadata() or {}).get(_SHARD) != mark:
                return None
            return file.get_tensor(_PLACES)
    except (OSError, SafetensorError):
        return None


def _go_through(path: Path) -> Int64[np.ndarray, "captions 2"]:
    try:
        with tarfile.open(path, "r:") as shard:
            places = [(member.offset_data, member.size) for member in shard if member.name.endswith(".txt")]
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"cannot read {path} as a shard ({error}): download it again") from error
    if not places:
        raise InputError(f"{path} holds no captions: expected a KEY.txt for each picture")
    return np.array(places, dtype=np.int64)
