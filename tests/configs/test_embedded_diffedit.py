"""The preset leaves everything to the checkpoint and asks no network."""

from maskedit.configs import EMBEDDED_DIFFEDIT
from maskedit.editors import DiffEditConfig


def test_settings_are_the_checkpoints() -> None:
    assert EMBEDDED_DIFFEDIT.options == DiffEditConfig()
    assert EMBEDDED_DIFFEDIT.checkpoint.model == "embedded"
    assert EMBEDDED_DIFFEDIT.checkpoint.offline
    assert EMBEDDED_DIFFEDIT.options.language.provider == "rules"
