"""Options of lifting and protection say which values they take."""

from typing import Any

import pytest

from maskedit.plugin.lift_options import LiftConfig, ProtectConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 100}, r"lift.resolution must be a multiple of 8 up to 512, got 100"),
        ({"resolution": 0}, r"lift.resolution must be a multiple of 8 up to 512, got 0"),
        ({"resolution": 520}, r"lift.resolution must be a multiple of 8 up to 512, got 520"),
        ({"threshold": 0.0}, r"lift.threshold must be in \(0, 1\), got 0"),
        ({"threshold": 1.0}, r"lift.threshold must be in \(0, 1\), got 1"),
        ({"softness": 1.5}, r"lift.softness must be in \[0, 1\], got 1.5"),
        ({"rounds": 0}, r"lift.rounds must be at least 1, got 0"),
        ({"batch": 0}, r"lift.batch must be at least 1, got 0"),
    ],
)
def test_lifting_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiftConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, r"protection.weight must be at least 0, got -1"),
        ({"photos": 1.5}, r"protection.photos must be in \[0, 1\], got 1.5"),
        ({"margin": -1}, r"protection.margin must be at least 0, got -1"),
    ],
)
def test_protection_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProtectConfig(**options)


def test_the_edges_of_the_ranges_are_taken() -> None:
    LiftConfig(resolution=512)
    LiftConfig(resolution=8, threshold=0.01, softness=0.0, rounds=1, batch=1)
    ProtectConfig(weight=0.0, photos=1.0, margin=0)
