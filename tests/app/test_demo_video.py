"""The demo's clip: edited both ways, measured as the bench measures, and shown."""

from pathlib import Path

import pytest
import torch

from maskedit.app.demo_video import FIGURES, SHOWN, VideoSettings, describe_video, draw_strip, edit_video
from maskedit.app.report import Clip, Gallery, Table
from maskedit.bench.video_scores import ClipOutcome, measure_clip
from maskedit.editors import Backbone, BackboneConfig, CheckpointPreset, InstructPreset, load_image
from maskedit.video.frames import read_clip


@pytest.mark.slow
def test_the_clip_is_edited_measured_and_shown(ip2p_folder: Path, tmp_path: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder)))
    backbone.preset = CheckpointPreset(instruct=InstructPreset(steps=2))
    told: list[str] = []
    found = edit_video(tmp_path, backbone, VideoSettings(fit_steps=3), show=lambda label, *_: told.append(label))
    assert {"the clip: fit", "the clip: render", "the clip: frame by frame"} <= set(told)
    assert found.instruction == "turn the large blue sphere yellow"
    source = found.clip.source.frames
    assert found.edited.shape == found.per_frame.shape == source.shape
    assert not torch.equal(found.edited, found.per_frame)
    assert torch.equal(found.edited, read_clip(tmp_path / "edited", size=None).frames)
    # The metrics are the bench's own.
    row = measure_clip(found.clip, ClipOutcome(frames=found.edited))
    assert found.figures["canonical image"] == {name: pytest.approx(row[name]) for name in FIGURES}
    truth, unedited = found.figures["truth"]["psnr_truth"], found.figures["unedited"]["psnr_truth"]
    assert truth is not None and unedited is not None and truth > 50 > unedited
    assert found.psnr_fit > 10

    assert load_image(tmp_path / "strip.png").shape[-2:] == draw_strip(found).shape[-2:] == (4 * 96, len(SHOWN) * 96)
    film = read_clip(found.film, size=None)
    assert film.frames.shape == (22, 3, 3 * 96, 4 * 3 * 96)
    said, canonical, clip, table, frames = describe_video(found).parts
    assert isinstance(said, str) and "12 frames of 96 pixels" in said
    assert isinstance(canonical, Gallery) and isinstance(clip, Clip) and isinstance(frames, Gallery)
    assert isinstance(table, Table)
    assert [each[0] for each in table.rows] == list(found.figures)
    assert [text for text, _ in frames.rows] == [f"frame {n}" for n in SHOWN]


def test_too_short_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="frames must be at least 12, got 4"):
        VideoSettings(frames=4)
    with pytest.raises(ValueError, match="fit_steps must be at least 1, got 0"):
        VideoSettings(fit_steps=0)
