"""Options of the editors on captions: published defaults, and refusals that name the option."""

from typing import Any

import pytest

from maskedit.editors import DiffEditConfig, InpaintConfig, InstructEditConfig, MDPConfig
from maskedit.editors.parts.caption_options import CaptionConfig


@pytest.mark.parametrize("kind", [DiffEditConfig, InstructEditConfig, MDPConfig, InpaintConfig])
def test_what_depends_on_the_checkpoint_is_left_open(kind: type[CaptionConfig]) -> None:
    config = kind()
    assert (config.steps, config.guidance_scale) == (None, None)
    assert (config.keep_outside, config.language.provider, config.captioner.enabled) == ("exact", "rules", False)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (InpaintConfig, {"steps": 0}, "steps must be in"),
        (InpaintConfig, {"guidance_scale": 1.0}, "guidance_scale must be above 1"),
        (InpaintConfig, {"size": 8}, "size must be at least 16"),
        (InstructEditConfig, {"encoding_ratio": 0.0}, r"encoding_ratio must be in \(0, 1\], got 0"),
        (InstructEditConfig, {"encoding_ratio": 1.2}, r"encoding_ratio must be in \(0, 1\], got 1.2"),
        (InstructEditConfig, {"encoding_ratio": 0.01, "steps": 50}, r"at least 1 / steps, got 0.01 with 50 steps"),
        (DiffEditConfig, {"mask_threshold": 0.0}, "mask_threshold must be in"),
        (DiffEditConfig, {"mask_maps": 0}, "mask_maps must be at least 1"),
        (DiffEditConfig, {"mask_strength": 0.0}, "mask_strength must be in"),
        (DiffEditConfig, {"mask_clip": 0.0}, "mask_clip must be above 0"),
        (MDPConfig, {"mix_factor": 1.5}, "mix_factor must be in"),
        (MDPConfig, {"mix_from": 0.6, "mix_until": 0.5}, "mix_from must be at most mix_until, got 0.6 and 0.5"),
    ],
)
def test_values_out_of_range_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_a_ratio_of_exactly_one_step_is_fine() -> None:
    assert InstructEditConfig(encoding_ratio=0.02, steps=50).encoding_ratio == 0.02
