"""The published settings of Visii."""

from maskedit.configs import PAPER_VISII


def test_every_setting_is_the_papers() -> None:
    recipe = PAPER_VISII.recipe
    assert (recipe.kind, recipe.learn, recipe.segments, recipe.steps) == ("visii", "embedding", 1, 1000)
    assert (recipe.learning_rate, recipe.guidance_scale, recipe.image_guidance_scale) == (1e-3, 7.5, 1.5)
    assert recipe.keep == "lowest"
