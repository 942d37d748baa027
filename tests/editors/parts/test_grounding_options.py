"""Options of grounding and captions: the published defaults, and refusals that name setting, range and value."""

import pytest

from maskedit.editors.parts.grounding_options import CaptionerConfig, GroundingConfig


def test_defaults_are_the_published_ones() -> None:
    config = GroundingConfig()
    assert (config.box_threshold, config.text_threshold, config.retry_thresholds) == (0.30, 0.25, (0.2, 0.15))
    assert config.detector.endswith("grounding-dino-tiny") and "vit_h" in config.sam
    captioner = CaptionerConfig()
    assert not captioner.enabled
    assert (captioner.model, captioner.max_new_tokens) == ("Salesforce/blip2-flan-t5-xl", 20)


@pytest.mark.parametrize("name", ["box_threshold", "text_threshold", "mask_threshold", "min_area"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_thresholds_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be in \[0, 1\), got {value:g}$"):
        GroundingConfig(**{name: value})


def test_a_retry_outside_the_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^retry_thresholds must be in \[0, 1\), got \(0.2, -1.0\)$"):
        GroundingConfig(retry_thresholds=(0.2, -1.0))


def test_ends_of_the_ranges_are_taken() -> None:
    config = GroundingConfig(box_threshold=0.0, mask_threshold=0.0, retry_thresholds=())
    assert config.mask_threshold == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"), ({"question": " "}, "question must be some")],
)
def test_captioner_settings_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptionerConfig(**options)
