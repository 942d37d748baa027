"""What ties pictures together: settings that are refused, and which of them are references."""

from typing import Any

import pytest

from maskedit.editors import NoiseSource, ViewSharing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"references": 0}, "references must be at least 1, got 0"),
        ({"own_share": 1.5}, r"own_share must be in \[0, 1\], got 1.5"),
        ({"own_share": -0.1}, r"own_share must be in \[0, 1\], got -0.1"),
        ({"stages": ()}, "stages must name at least one of down, mid, up, got none"),
    ],
)
def test_bad_settings_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewSharing(**options)


def test_the_published_shares_are_the_defaults() -> None:
    assert ViewSharing(among="all").own == 0
    assert ViewSharing(among="references").own == 0.6
    assert ViewSharing(among="references", own_share=0.0).own == 0


@pytest.mark.parametrize(
    ("references", "views", "expected"),
    [(4, 8, (0, 2, 4, 6)), (4, 9, (0, 2, 4, 6)), (3, 8, (0, 2, 5)), (4, 2, (0, 1)), (1, 5, (0,)), (4, 4, (0, 1, 2, 3))],
)
def test_references_are_spread_over_the_views(references: int, views: int, expected: tuple[int, ...]) -> None:
    assert ViewSharing(references=references).reference_rows(views) == expected


def test_a_source_of_noise_is_told_by_what_it_can_do() -> None:
    class Source:
        @property
        def settings(self) -> dict[str, Any]:
            return {}

        def rows(self, rows: slice) -> "Source":
            return self

        def draw(self, own: Any, *, filled: tuple[float, float]) -> Any:
            return own

    assert isinstance(Source(), NoiseSource)
    assert not isinstance(object(), NoiseSource)
