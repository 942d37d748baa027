"""The published settings of Visii."""

from maskedit.configs import PAPER_VISII


def test_every_setting_is_the_papers() -> None:
    recipe = PAPER_VISII.recipe
    assert (recipe.kind, recipe.learn, recipe.segments, recipe.steps) == ("visii", "embedding", 1, 1000)
    assert (recipe.learning_rate, recipe.guidance_scale, recipe.image_guidance_scale) == (1e-3, 7.5, 1.5)
    assert recipe.keep == "lowest"
    assert (recipe.direction_weight, recipe.clip_values, recipe.weight_decay) == (0.1, True, 1e-2)
    assert (PAPER_VISII.clip, PAPER_VISII.start) == ("openai/clip-vit-large-patch14", "content")
    search = PAPER_VISII.caption
    assert (search.tokens, search.steps, search.learning_rate, search.weight_decay) == (10, 3000, 0.1, 0.1)
