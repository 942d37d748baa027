"""The preset leaves everything to the checkpoint and asks no network."""

from maskedit.configs import EMBEDDED_FOI
from maskedit.editors import FoIConfig


def test_settings_are_the_checkpoints() -> None:
    assert EMBEDDED_FOI.options == FoIConfig()
    assert EMBEDDED_FOI.checkpoint.model == "embedded"
    assert EMBEDDED_FOI.checkpoint.offline
