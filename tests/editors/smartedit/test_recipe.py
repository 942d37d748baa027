"""The published numbers, the rates that follow from them, and values that make no sense."""

import pytest

from maskedit.editors.smartedit.recipe import SmartEditRecipe, SmartEditRun


def test_the_defaults_are_the_second_stage_as_published() -> None:
    recipe = SmartEditRecipe()
    assert (recipe.steps, recipe.batch, recipe.size) == (15000, 128, 256)
    assert {recipe.optimize.learning_rate_at(step) for step in (0, 1, 7000, 14999)} == {1e-5}
    assert recipe.optimize.weight_decay == 0


def test_the_first_stage_warms_up_and_falls_to_nothing() -> None:
    rates = SmartEditRecipe(steps=1000, learning_rate=2e-4, schedule="cosine", warmup_share=0.04).optimize
    assert rates.warmup_steps == 40
    assert rates.learning_rate_at(0) == pytest.approx(2e-4 / 40, rel=1e-3)
    assert rates.learning_rate_at(500) == pytest.approx(1e-4)
    assert rates.learning_rate_at(999) < 1e-9


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"micro_batch": 0}, "micro_batch must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"talk_weight": -1.0}, "talk_weight must be at least 0"),
        ({"drop_share": 0.4}, r"drop_share must be in \[0, 0.333333\], got 0.4"),
        ({"warmup_share": 1.5}, "warmup_share must be in"),
        ({"ema_decay": 1.0}, "ema_decay must be in"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_impossible_recipes_are_refused(wrong: dict[str, float], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        SmartEditRecipe(**wrong)


@pytest.mark.parametrize("name", ["save_every", "report_every", "workers", "export_every"])
def test_impossible_runs_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        SmartEditRun(**{name: -1})
