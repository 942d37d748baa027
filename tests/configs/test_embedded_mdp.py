"""The preset leaves everything to the checkpoint and asks no network."""

from maskedit.configs import EMBEDDED_MDP
from maskedit.editors import MDPConfig


def test_settings_are_the_checkpoints() -> None:
    assert EMBEDDED_MDP.options == MDPConfig()
    assert EMBEDDED_MDP.checkpoint.model == "embedded"
    assert EMBEDDED_MDP.checkpoint.offline
    assert EMBEDDED_MDP.options.language.provider == "rules"
