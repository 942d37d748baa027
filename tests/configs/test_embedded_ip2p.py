"""The preset leaves everything to the checkpoint and asks no network."""

from maskedit.configs import EMBEDDED_IP2P
from maskedit.editors import IP2PConfig


def test_settings_are_the_checkpoints() -> None:
    assert EMBEDDED_IP2P.options == IP2PConfig()
    assert EMBEDDED_IP2P.checkpoint.model == "embedded"
    assert EMBEDDED_IP2P.checkpoint.offline
