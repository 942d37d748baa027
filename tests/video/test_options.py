"""Options of a video edit, and how they are kept."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from maskedit.editors import SessionError
from maskedit.video.fit import FitConfig
from maskedit.video.flow import FlowConfig
from maskedit.video.layers import LayersConfig
from maskedit.video.options import FramesConfig, RenderConfig, VideoConfig, options_to_record, record_to_options
from maskedit.video.segments import SegmentConfig
from maskedit.video.writing import WriteConfig

UNUSUAL = VideoConfig(
    frames=FramesConfig(size=None, start=1.5, frames=7, stride=2, fps=24.0),
    flow=FlowConfig(method="dis", files=Path("a/flow.npz"), tolerance_pixels=0.75),
    layers=LayersConfig(masks=(Path("one"), Path("two")), phrases=("a dog",), key_every=3),
    segments=SegmentConfig(length=40, overlap=0),
    fit=FitConfig(field="hash", learning_rate=0.5, reference=3),
    render=RenderConfig(transfer="residual", size="working", side_by_side=True, file=WriteConfig(crf=3, sound=False)),
    minimum_psnr=30.0,
    accept_quality=True,
)


@pytest.mark.parametrize("config", [VideoConfig(), UNUSUAL])
def test_options_survive_json(config: VideoConfig) -> None:
    record = json.loads(json.dumps(options_to_record(config)))
    assert record_to_options(VideoConfig, record) == config


def test_whole_numbers_for_floats_and_unknown_names_are_read() -> None:
    config = record_to_options(VideoConfig, {"minimum_psnr": 20, "of_a_later_version": 1, "fit": {"steps": 5}})
    assert config == VideoConfig(minimum_psnr=20.0, fit=FitConfig(steps=5))
    assert isinstance(config.minimum_psnr, float)


@pytest.mark.parametrize("record", [{"fit": {"steps": 0}}, {"fit": 3}, {"layers": {"masks": 5}}])
def test_damaged_settings_are_one_line(record: dict[str, Any]) -> None:
    with pytest.raises(SessionError, match="cannot read stored settings") as refused:
        record_to_options(VideoConfig, record)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (FramesConfig, {"size": 15}, "size must be at least 16, got 15"),
        (FramesConfig, {"start": -0.5}, "start must be at least 0, got -0.5"),
        (FramesConfig, {"frames": 1}, "frames must be at least 2, got 1"),
        (FramesConfig, {"stride": 0}, "stride must be at least 1, got 0"),
        (FramesConfig, {"fps": 0.0}, "fps must be above 0, got 0"),
        (VideoConfig, {"minimum_psnr": -1.0}, "minimum_psnr must be at least 0, got -1"),
    ],
)
def test_ranges(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_every_option_of_the_unusual_config_is_unusual() -> None:
    """Otherwise the test of survival would prove less than it seems to."""
    plain = VideoConfig()
    for each in fields(VideoConfig):
        one, other = getattr(plain, each.name), getattr(UNUSUAL, each.name)
        assert one != other, each.name
        assert is_dataclass(one) == is_dataclass(other)
