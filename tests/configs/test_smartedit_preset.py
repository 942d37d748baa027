"""The registry of presets of SmartEdit's training."""

from typing import get_args

from maskedit.configs import SMARTEDIT_PRESETS, SmartEditPresetName


def test_every_preset_can_be_asked_for_by_name() -> None:
    assert tuple(SMARTEDIT_PRESETS) == get_args(SmartEditPresetName)
    for name, preset in SMARTEDIT_PRESETS.items():
        assert name.endswith(f"stage{preset.stage}")


def test_a_batch_can_be_shared_by_eight_devices_in_whole_micro_batches() -> None:
    for preset in SMARTEDIT_PRESETS.values():
        assert preset.recipe.batch % (8 * preset.recipe.micro_batch) == 0
