"""What a preset of picture editing holds: a checkpoint, and an editor with its options."""

from dataclasses import dataclass

from ..editors import BackboneConfig, EditorConfig, EditorName, name_of


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
        return name_of(self.options)
