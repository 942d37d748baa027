"""From a configuration to an editor."""

from typing import assert_never

from .core.backbone import Backbone
from .core.checkpoint import BackboneConfig
from .foi import FoI
from .ip2p import IP2P
from .parts.options import EditorConfig, FoIConfig, IP2PConfig
from .parts.request import Editor


def make_editor(config: EditorConfig, backbone: Backbone) -> Editor:
    """The editor a configuration describes, on a loaded backbone."""
    match config:
        case IP2PConfig():
            return IP2P(backbone, config)
        case FoIConfig():
            return FoI(backbone, config)
        case _:
            assert_never(config)


def load_editor(config: EditorConfig, backbone: BackboneConfig) -> Editor:
    """Load a checkpoint and put the editor on it.

    Raises:
        ModelError: if the checkpoint is missing or of another kind than the editor needs.
    """
    return make_editor(config, Backbone.load(backbone))
