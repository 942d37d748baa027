"""Options carry the papers' values and refuse what makes no sense."""

from typing import get_args

import pytest

from maskedit.editors import EditorConfig, EditorName, FoIConfig, IP2PConfig
from maskedit.editors.parts.options import CanvasConfig


def test_the_defaults_of_foi_are_the_papers() -> None:
    config = FoIConfig()
    assert (config.boost, config.boost_max, config.boost_time) == (0.05, "query", "train")
    assert (config.extract_at, config.modulation_end, config.disentangle_end) == (0.0, 1.0, 0.75)
    assert (config.special_tokens, config.swap_values, config.rerun_first_step) == ("union", False, False)


def test_locality_is_the_default() -> None:
    assert {CanvasConfig().keep_outside, IP2PConfig().keep_outside, FoIConfig().keep_outside} == {"exact"}


def test_what_belongs_to_a_checkpoint_is_left_open() -> None:
    config = FoIConfig()
    open_names = ("sampler", "steps", "guidance_scale", "image_guidance_scale", "noise_level", "mask_threshold")
    assert [getattr(config, name) for name in (*open_names, "mask_squarings", "mask_stride", "mask_stages")] == [
        None
    ] * 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 15},
        {"mask_feather": -1},
        {"chunk": 0},
        {"steps": 0},
        {"steps": 1001},
        {"guidance_scale": 1.0},
        {"image_guidance_scale": 0.99},
        {"noise_level": 0.0},
        {"noise_level": 1.01},
        {"mask_threshold": 0.0},
        {"mask_threshold": 1.5},
        {"mask_squarings": -1},
        {"mask_squarings": 11},
        {"mask_stride": 0},
        {"mask_stages": ()},
        {"extract_at": 1.0},
        {"modulation_end": 1.1},
        {"disentangle_end": -0.1},
        {"boost": -0.1},
        {"boost": 1.5},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_by_name(wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=name) as caught:
        FoIConfig(**wrong)
    assert "\n" not in str(caught.value)
    if isinstance(value, int | float):
        assert f"{value:g}" in str(caught.value)


def test_masks_cannot_be_read_late_and_the_first_step_repeated() -> None:
    with pytest.raises(ValueError, match="rerun_first_step reads the masks at the first step"):
        FoIConfig(rerun_first_step=True, extract_at=0.25)


@pytest.mark.parametrize(
    "right",
    [
        {"mask_threshold": "sample"},
        {"mask_threshold": 1.0},
        {"mask_squarings": 0},
        {"disentangle_end": 0.0},
        {"chunk": 1},
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_are_allowed(right: dict[str, object]) -> None:
    FoIConfig(**right)


def test_every_editor_has_a_name() -> None:
    assert len(get_args(EditorConfig)) == len(get_args(EditorName))
