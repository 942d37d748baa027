"""Checkpoints that build on another one: where the parts are that they lack, and what tells them apart; light."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .checkpoint import BackboneConfig, CheckpointKind, fingerprint_weights, load_preset, locate_checkpoint
from .errors import ModelError


def follow_bases(location: Path | str, config: BackboneConfig) -> Iterator[tuple[Path | str, BackboneConfig]]:
    """A checkpoint, the one it builds on, the one that builds on, and so on, each with how it is looked up.

    Args:
        location: folder or hub id of the first; one on the hub is the last.
        config: how it is looked up.

    Raises:
        ModelError: if one of them is not there, or builds on itself.
    """
    seen: set[Path] = set()
    while True:
        yield location, config
        if isinstance(location, str):
            return
        seen.add(location.resolve())
        base = load_preset(location).base
        if not base:
            return
        beside, config = location / base, replace(config, revision=None)
        found = beside if beside.is_dir() else base
        try:
            # A folder beside it must not be looked for among local copies first.
            place = config.model_dir if isinstance(found, str) else None
            located = locate_checkpoint(replace(config, model=str(found), model_dir=place))
        except ModelError as error:
            raise ModelError(f"{location} builds on {base!r}: {error}") from error
        if isinstance(located, Path) and located.resolve() in seen:
            raise ModelError(f"{location} builds on {base!r}, and that on {location}: correct its maskedit.json")
        location = located


def locate_part(location: Path | str, subfolder: str, config: BackboneConfig) -> tuple[Path | str, BackboneConfig]:
    """Where a part of a checkpoint is, and how to look it up there: its own, or that of a checkpoint it builds on.

    Args:
        location: folder or hub id of the checkpoint.
        subfolder: of the part; "" = the checkpoint is this one part.
        config: how the checkpoint is looked up.

    Returns:
        The first that has the part; the last of all where none has.

    Raises:
        ModelError: if what it builds on is not there, or is itself.
    """
    found = (location, config)
    if not subfolder:
        return found
    for found in follow_bases(location, config):
        if isinstance(found[0], Path) and (found[0] / subfolder).is_dir():
            break
    return found


def fingerprint_checkpoint(config: BackboneConfig, kind: CheckpointKind) -> str:
    """What tells a checkpoint from another one in the same place; of one on the hub, its name and revision.

    Of each file of weights only parts are read, since a checkpoint has gigabytes; training changes all of them.

    Raises:
        ModelError: if it is not there, or what it builds on is not.
    """
    # A part may come from any checkpoint it builds on.
    marks = [
        f"{place}@{there.revision or 'default branch'}" if isinstance(place, str) else fingerprint_weights(place)
        for place, there in follow_bases(locate_checkpoint(config, kind), config)
    ]
    return " on ".join(marks)
