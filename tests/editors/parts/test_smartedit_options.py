"""SmartEdit's options: the published defaults, and what is out of range."""

from typing import Any

import pytest

from maskedit.editors.parts.smartedit_options import SmartEditConfig


def test_the_defaults_leave_the_run_to_the_checkpoint() -> None:
    config = SmartEditConfig()
    assert (config.steps, config.guidance_scale, config.image_guidance_scale, config.sampler) == (None,) * 4
    assert (config.template, config.drop_features, config.quantize, config.mllm_device) == (0, False, None, None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"template": -1}, "^template must be at least 0, got -1"),
        ({"mllm_device": " "}, "^mllm_device must name a device such as cpu"),
        ({"guidance_scale": 1.0}, "^guidance_scale must be above 1, got 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        SmartEditConfig(**values)
