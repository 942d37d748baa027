"""The registry of presets of learning, and that a command starts from them."""

from typing import get_args

from maskedit.configs import BRUSH_PRESETS, BrushPreset, BrushPresetName
from maskedit.editors import BackboneConfig, BrushRecipe


def test_every_preset_can_be_asked_for_by_name() -> None:
    assert tuple(BRUSH_PRESETS) == get_args(BrushPresetName)
    for name, preset in BRUSH_PRESETS.items():
        assert preset.recipe.kind in name
        assert name.startswith("embedded") == (preset.checkpoint.model == "embedded")


def test_a_preset_is_watched_as_usual_unless_it_says_otherwise() -> None:
    preset = BrushPreset(checkpoint=BackboneConfig(), recipe=BrushRecipe())
    assert (preset.watch.every, preset.watch.patience) == (100, 5)
