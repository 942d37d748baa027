"""Tensors of a checkpoint, put where they belong: every one of them and no other, or none at all."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..core.errors import ModelError


@torch.no_grad()
def fill_tensors(own: Mapping[str, Shaped[Tensor, "..."]], path: Path, *, beside: str, hint: str) -> None:
    """Copy what a file holds into tensors of the same names and shapes.

    Args:
        own: the tensors; they change in place.
        path: safetensors.
        beside: what the file must fit, as a message says it.
        hint: what the user can do.

    Raises:
        ModelError: if the file cannot be read, lacks a tensor, or has another one or one of another shape.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path} ({str(error).splitlines()[0]}): {hint}") from error
    differing = sorted(set(own) ^ set(stored)) or sorted(n for n in own if own[n].shape != stored[n].shape)
    if differing:
        raise ModelError(f"{path} does not fit {beside} ({differing[0]}, {len(differing)} tensors): {hint}")
    for name, each in own.items():
        each.copy_(stored[name])
