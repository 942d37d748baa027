"""The preset leaves guidance to the checkpoint and asks no network."""

from maskedit.configs import EMBEDDED_INSTRUCTBRUSH


def test_guidance_is_the_checkpoints() -> None:
    recipe = EMBEDDED_INSTRUCTBRUSH.recipe
    assert (recipe.guidance_scale, recipe.image_guidance_scale) == (None, None)
    assert EMBEDDED_INSTRUCTBRUSH.checkpoint.model == "embedded"
    assert EMBEDDED_INSTRUCTBRUSH.checkpoint.offline
    assert (EMBEDDED_INSTRUCTBRUSH.clip, EMBEDDED_INSTRUCTBRUSH.start) == ("embedded", None)
