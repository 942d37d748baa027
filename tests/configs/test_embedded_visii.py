"""The preset is the published recipe on the embedded set but for what it names, and asks no network."""

from dataclasses import replace

from maskedit.configs import EMBEDDED_VISII, PAPER_VISII


def test_guidance_is_the_checkpoints_and_the_rest_is_published() -> None:
    published = replace(
        PAPER_VISII.recipe, guidance_scale=None, image_guidance_scale=None, learning_rate=1e-1, keep="last"
    )
    assert EMBEDDED_VISII.recipe == published
    assert (EMBEDDED_VISII.clip, EMBEDDED_VISII.start) == ("embedded", "content")
    assert EMBEDDED_VISII.checkpoint.model == "embedded" and EMBEDDED_VISII.checkpoint.offline
