"""Values out of range are refused with the name of the option."""

from typing import Any

import pytest

from maskedit.editors.parts.brush_options import (
    BrushRecipe,
    CaptionSearchConfig,
    InstructBrushConfig,
    VisiiConfig,
    WatchConfig,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"segments": 0}, r"segments must be in \[1, 50\], got 0"),
        ({"rows": 76}, r"rows must be in \[0, 75\], got 76"),
        ({"steps": 0}, "steps must be"),
        ({"batch": 0}, "batch must be"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \[0, 1\), got 1"),
        ({"guidance_scale": 1.0}, "guidance_scale must be above 1, got 1"),
        ({"image_guidance_scale": 0.5}, "image_guidance_scale must be at least 1, got 0.5"),
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"kind": "visii"}, "learns one embedding"),
        ({"direction_weight": -0.1, "learn": "embedding"}, "direction_weight must be at least 0, got -0.1"),
        ({"direction_weight": 0.1}, "direction_weight must be 0 where attention is learned, got 0.1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BrushRecipe(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokens": 0}, r"tokens must be in \[1, 75\], got 0"),
        ({"steps": 0}, "steps must be in"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1"),
    ],
)
def test_a_search_out_of_range_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptionSearchConfig(**values)


def test_a_search_is_visiis() -> None:
    config = CaptionSearchConfig()
    assert (config.tokens, config.steps, config.learning_rate, config.weight_decay) == (10, 3000, 0.1, 0.1)


def test_the_defaults_are_the_papers() -> None:
    recipe = BrushRecipe()
    assert (recipe.segments, recipe.steps, recipe.learning_rate, recipe.batch, recipe.rows) == (5, 1000, 1e-3, 1, 10)
    assert recipe.cfg_train and not recipe.include_bos
    assert BrushRecipe(kind="visii", learn="embedding", segments=1).kind == "visii"


def test_edits_take_their_settings_from_the_brush() -> None:
    for config in (InstructBrushConfig(), VisiiConfig()):
        assert (config.sampler, config.steps, config.guidance_scale, config.brush) == (None, None, None, None)
    with pytest.raises(ValueError, match="steps must be in"):
        InstructBrushConfig(steps=0)


@pytest.mark.parametrize(("values", "name"), [({"every": 0}, "every"), ({"patience": -1}, "patience")])
def test_a_watch_out_of_range_is_refused(values: dict[str, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        WatchConfig(**values)


def test_a_run_that_goes_on_may_be_longer_and_nothing_else() -> None:
    settings = BrushRecipe().settings()
    assert BrushRecipe(steps=7, chunk=1).settings() == settings
    assert BrushRecipe(seed=1).settings() != settings
