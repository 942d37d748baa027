"""RAFT, the network that finds optical flow, built from its weights.

Source: RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, arXiv 2003.12039, in torchvision's form. Whether
weights are the large or the small network is read from them.
"""

import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ..editors import ModelError

_SMALLEST, _MULTIPLE = 128, 8
"""Sides that the network's pyramid of correlations needs, in pixels."""
_FIRST = "feature_encoder.convnormrelu.0.weight"
_WIDTHS = {64: "raft-large", 32: "raft-small"}
"""The two networks by the width of their first layer."""


def find_raft(checkpoint: Path | None) -> Path | None:
    """The weights that are on this machine: the file given, or else those in torchvision's cache, large before small.

    Raises:
        ModelError: if a file is given and is not there.
    """
    if checkpoint is not None:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            raise ModelError(f"expected the weights of RAFT at {path}, found no such file: check raft_checkpoint")
        return path
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    cached = [folder / url.rsplit("/", 1)[-1] for url in _addresses()]
    return next((path for path in cached if path.is_file()), None)


def load_raft(path: Path | None, *, device: torch.device | str, offline: bool = False) -> tuple[nn.Module, str]:
    """The network on its device, in float32, and its name.

    Args:
        path: its weights, a .pth file, which is read without running anything in it; None = fetch the large network's.
        device: where it runs.
        offline: never fetch.

    Raises:
        ModelError: if weights are missing and cannot be fetched, hold more than weights, or are not RAFT's.
    """
    from torchvision.models.optical_flow import raft_large, raft_small

    weights = _fetch(offline=offline) if path is None else _read(path)
    source = "the fetched file" if path is None else str(path)
    first = weights.get(_FIRST)
    name = None if first is None else _WIDTHS.get(len(first))
    if name is None:
        raise ModelError(f"{source} is no RAFT of torchvision: convert it, or let method be auto without a checkpoint")
    network = (raft_large if name == "raft-large" else raft_small)(weights=None)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        detail = " ".join(line.strip() for line in str(error).splitlines()[1:2])
        raise ModelError(f"{source} is no complete RAFT of torchvision: fetch it again ({detail[:200]})") from error
    return network.requires_grad_(False).eval().to(device), name


@torch.no_grad()
def raft_flow(
    network: nn.Module,
    first: UInt8[Tensor, "pair 3 height width"],
    second: UInt8[Tensor, "pair 3 height width"],
    *,
    updates: int = 12,
) -> Float[Tensor, "pair 2 height width"]:
    """Flow from each first picture to its second one in pixels, on the device of the network.

    Small pictures, and sides that the network cannot halve three times, are continued by their right and lower edges.

    Args:
        network: of `load_raft`.
        first: RGB.
        second: RGB, of the same size.
        updates: how often the flow is corrected, at least 1.
    """
    height, width = first.shape[-2:]
    device = next(network.parameters()).device
    below, beside = (max(side, _SMALLEST) + -max(side, _SMALLEST) % _MULTIPLE - side for side in (height, width))
    # The network was trained on pictures in [-1, 1].
    pictures = [
        F.pad(p.to(device).float() / 127.5 - 1, (0, beside, 0, below), mode="replicate") for p in (first, second)
    ]
    return network(*pictures, num_flow_updates=updates)[-1][..., :height, :width].float()


def _addresses() -> tuple[str, ...]:
    from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights

    return tuple(kind.DEFAULT.url for kind in (Raft_Large_Weights, Raft_Small_Weights))


def _fetch(*, offline: bool) -> dict[str, Tensor]:
    address = _addresses()[0]
    name = address.rsplit("/", 1)[-1]
    advice = f"fetch {name} elsewhere and give it as raft_checkpoint, or choose the method dis"
    if offline:
        raise ModelError(f"the weights of RAFT are not on this machine and offline was asked for: {advice}")
    try:
        return torch.hub.load_state_dict_from_url(
            address, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise ModelError(f"the weights of RAFT could not be fetched ({_first_line(error)}): {advice}") from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} holds more than weights and may run code: fetch torchvision's RAFT") from error
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"cannot read the weights of RAFT at {path}: {_first_line(error)}") from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise ModelError(f"expected the weights of RAFT in {path}, got something else: fetch torchvision's")
    return stored


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
