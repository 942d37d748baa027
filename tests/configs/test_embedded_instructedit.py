"""The preset leaves everything to the checkpoint and asks no network."""

from maskedit.configs import EMBEDDED_INSTRUCTEDIT
from maskedit.editors import InstructEditConfig


def test_settings_are_the_checkpoints() -> None:
    assert EMBEDDED_INSTRUCTEDIT.options == InstructEditConfig()
    assert EMBEDDED_INSTRUCTEDIT.checkpoint.model == "embedded"
    assert EMBEDDED_INSTRUCTEDIT.checkpoint.offline
    assert EMBEDDED_INSTRUCTEDIT.options.language.provider == "rules"
