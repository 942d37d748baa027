"""Loading the models around an editor: segmenters and captioners, each a folder or a hub id in transformers layout.

They are found by the rules of `places.py`; weights come from safetensors only, and every one of them.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..core.backbone import resolve_device
from ..core.checkpoint import BackboneConfig, DtypeName
from ..core.loading import load_configuration, load_network, quiet_loading
from .places import locate_pretrained


class Pretrained(NamedTuple):
    """A network, ready to run, and what prepares its inputs."""

    network: Any
    processor: Any
    location: Path | str


def load_pretrained(
    network: Any,
    processor: Any,
    name: str,
    *,
    role: str,
    device: torch.device | str,
    model_dir: Path | None,
    offline: bool,
    dtype: DtypeName = "float32",
) -> Pretrained:
    """Load a network and its processor.

    Args:
        network: class of the network.
        processor: class of its processor.
        name: folder or hub id.
        role: what messages call it, such as "detector"; also the name of the setting.
        device: where it runs.
        model_dir: folder with local copies, looked up before the hub.
        offline: never ask the hub.
        dtype: precision of the weights.

    Raises:
        ModelError: if it is missing, incomplete, or has only pickle weights.
    """
    place, precision = resolve_device(str(device), dtype)
    location = locate_pretrained(name, role=role, model_dir=model_dir)
    config = BackboneConfig(model=name, model_dir=model_dir, offline=offline)
    with quiet_loading(keep_bars=isinstance(location, str)):
        loaded = load_network(network, role, location, config, subfolder="", dtype=precision)
        prepare = load_configuration(processor, "from_pretrained", "processor", location, config, subfolder="")
    return Pretrained(loaded.to(place).requires_grad_(False).eval(), prepare, location)
