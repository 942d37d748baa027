"""The published settings, whatever the defaults become, and what each ablation leaves out."""

from dataclasses import replace

from maskedit.configs import (
    PAPER_INSTRUCTBRUSH,
    PAPER_INSTRUCTBRUSH_WITHOUT_ATTENTION,
    PAPER_INSTRUCTBRUSH_WITHOUT_INIT,
    PAPER_INSTRUCTBRUSH_WITHOUT_TIME,
)


def test_every_setting_is_the_papers() -> None:
    recipe = PAPER_INSTRUCTBRUSH.recipe
    assert (recipe.kind, recipe.learn, recipe.segments, recipe.steps) == ("instructbrush", "attention", 5, 1000)
    assert (recipe.learning_rate, recipe.batch, recipe.weight_decay, recipe.rows) == (1e-3, 1, 0.0, 10)
    assert (recipe.guidance_scale, recipe.image_guidance_scale, recipe.cfg_train) == (7.5, 1.5, True)
    phrases = PAPER_INSTRUCTBRUSH.phrases
    assert (phrases.candidates, phrases.threshold, phrases.search) == (5, 0.15, "independent")
    assert (PAPER_INSTRUCTBRUSH.clip, PAPER_INSTRUCTBRUSH.start) == ("openai/clip-vit-large-patch14", None)
    assert PAPER_INSTRUCTBRUSH.checkpoint.model == "timbrooks/instruct-pix2pix"


def test_an_ablation_differs_in_one_thing() -> None:
    full = PAPER_INSTRUCTBRUSH.recipe
    without_time = PAPER_INSTRUCTBRUSH_WITHOUT_TIME.recipe
    assert without_time == replace(full, segments=1, steps=5 * full.steps)
    assert PAPER_INSTRUCTBRUSH_WITHOUT_ATTENTION.recipe == replace(full, learn="embedding")
    assert replace(PAPER_INSTRUCTBRUSH, start="content") == PAPER_INSTRUCTBRUSH_WITHOUT_INIT
