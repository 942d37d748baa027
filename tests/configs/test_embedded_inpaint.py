"""The preset leaves everything to the checkpoint and asks no network."""

from maskedit.configs import EMBEDDED_INPAINT
from maskedit.editors import InpaintConfig


def test_settings_are_the_checkpoints() -> None:
    assert EMBEDDED_INPAINT.options == InpaintConfig()
    assert EMBEDDED_INPAINT.checkpoint.model == "embedded"
    assert EMBEDDED_INPAINT.checkpoint.offline
    assert EMBEDDED_INPAINT.options.language.provider == "rules"
