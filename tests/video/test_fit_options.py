"""Settings of a fit."""

from dataclasses import replace
from typing import get_args

import pytest

from maskedit.video.fit_options import LEARNING_RATES, FieldKind, FitConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"flow_weight": -1.0}, "flow_weight must not be negative"),
        ({"margin": 1.5}, "margin must be in"),
        ({"finest_cell": 0.5}, "finest_cell must be at least 1 pixel"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"reference": -1}, "reference must not be negative"),
        ({"hash_table": 1000}, "hash_table must be a power of two"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FitConfig(), **change)


def test_every_kind_has_a_learning_rate() -> None:
    assert set(LEARNING_RATES) == set(get_args(FieldKind))
