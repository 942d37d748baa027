"""The published settings, whatever the defaults become, and what each ablation leaves out."""

from dataclasses import replace

from maskedit.configs import (
    PAPER_INSTRUCTBRUSH,
    PAPER_INSTRUCTBRUSH_WITHOUT_ATTENTION,
    PAPER_INSTRUCTBRUSH_WITHOUT_TIME,
)


def test_every_setting_is_the_papers() -> None:
    recipe = PAPER_INSTRUCTBRUSH.recipe
    assert (recipe.kind, recipe.learn, recipe.segments, recipe.steps) == ("instructbrush", "attention", 5, 1000)
    assert (recipe.learning_rate, recipe.batch, recipe.weight_decay, recipe.rows) == (1e-3, 1, 0.0, 10)
    assert (recipe.guidance_scale, recipe.image_guidance_scale, recipe.cfg_train) == (7.5, 1.5, True)
    assert PAPER_INSTRUCTBRUSH.checkpoint.model == "timbrooks/instruct-pix2pix"


def test_an_ablation_differs_in_one_thing() -> None:
    full = PAPER_INSTRUCTBRUSH.recipe
    without_time = PAPER_INSTRUCTBRUSH_WITHOUT_TIME.recipe
    assert without_time == replace(full, segments=1, steps=5 * full.steps)
    assert PAPER_INSTRUCTBRUSH_WITHOUT_ATTENTION.recipe == replace(full, learn="embedding")
