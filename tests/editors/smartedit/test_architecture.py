"""Sizes that cannot be built are refused by name."""

from typing import Any

import pytest

from maskedit.editors.smartedit.architecture import SmartEditArchitecture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_tokens": 0}, "image_tokens must be at least 1"),
        ({"qformer_heads": 7}, "context_width must be a multiple of qformer_heads"),
        ({"interaction_heads": 3}, "interaction_width must be a multiple of interaction_heads"),
        ({"residual_scale": 0.0}, "residual_scale must be above 0"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmartEditArchitecture(**change)
