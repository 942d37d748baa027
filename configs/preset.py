"""What a preset of picture editing holds: a checkpoint, and an editor with its options."""

from dataclasses import dataclass
from typing import assert_never

from ..editors import BackboneConfig, EditorConfig, EditorName, FoIConfig, IP2PConfig


@dataclass(frozen=True, kw_only=True)
class EditPreset:
    """Where `maskedit edit` starts from; every flag given beside `--preset` overrides its value."""

    checkpoint: BackboneConfig
    """Which checkpoint to load, and how to run it."""
    options: EditorConfig
    """The editor's options; its class says which editor."""

    @property
    def editor(self) -> EditorName:
        """The editor's name."""
        match self.options:
            case FoIConfig():
                return "foi"
            case IP2PConfig():
                return "ip2p"
            case _:
                assert_never(self.options)
