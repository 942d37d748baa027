"""The registry of presets, and what a preset says of itself."""

from typing import get_args

from maskedit.configs import PRESETS, EditPreset, PresetName
from maskedit.editors import BackboneConfig, FoIConfig, IP2PConfig


def test_presets_name_their_editor() -> None:
    checkpoint = BackboneConfig(model="somewhere")
    assert EditPreset(checkpoint=checkpoint, options=FoIConfig()).editor == "foi"
    assert EditPreset(checkpoint=checkpoint, options=IP2PConfig()).editor == "ip2p"


def test_every_preset_can_be_asked_for_by_name() -> None:
    assert tuple(PRESETS) == get_args(PresetName)
    for name, preset in PRESETS.items():
        assert name.endswith(preset.editor)
        assert name.startswith("embedded") == (preset.checkpoint.model == "embedded")
