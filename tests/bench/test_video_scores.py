"""The scores of an edited clip, on clips whose scores are known."""

import math
from dataclasses import replace

import pytest
import torch

from maskedit.bench.blocks import Clip, render_clip, sample_clip
from maskedit.bench.video_scores import METRICS, ClipOutcome, mean, measure_clip, summarise_clips, to_bytes
from maskedit.video.metrics import warp_error


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(sample_clip("validation", 0, frames=4, kinds={"recolor": 1.0}), height=32)


def test_the_truth_is_met_and_the_source_only_outside(clip: Clip):
    truth = measure_clip(clip, ClipOutcome(frames=to_bytes(clip.edited.frames), mask=clip.mask.float()))
    source = measure_clip(clip, ClipOutcome(frames=to_bytes(clip.source.frames)))
    assert truth["psnr_truth"] == pytest.approx(10 * math.log10(12 * 255**2), abs=1)
    assert truth["mask_iou"] == 1
    assert truth["warp_excess"] == pytest.approx(0, abs=0.1)
    assert isinstance(source["psnr_inside"], float) and isinstance(source["psnr_outside"], float)
    assert source["psnr_inside"] < 20 < 40 < source["psnr_outside"]
    assert math.isnan(float(source["mask_iou"] or 0))
    assert truth["kind"] == "recolor"


def test_motion_is_that_of_the_edited_twin(clip: Clip):
    frames, motion = to_bytes(clip.source.frames), clip.edited
    row = measure_clip(clip, ClipOutcome(frames=frames))
    assert row["warp_error"] == pytest.approx(255 * warp_error(frames, motion.forward, ~motion.forward_occluded))
    still = replace(clip, edited=replace(motion, forward=torch.zeros_like(motion.forward)))
    assert measure_clip(still, ClipOutcome(frames=frames))["warp_error"] != row["warp_error"]


def test_an_edit_that_alternates_flickers_where_it_is_seen(clip: Clip):
    on_and_off = torch.where((torch.arange(4) % 2 == 0).view(-1, 1, 1, 1), clip.edited.frames, clip.source.frames)
    outcome = ClipOutcome(frames=to_bytes(on_and_off), seconds={"edit": 3.0}, refused=0.25, psnr_fit=31.0)
    row = measure_clip(clip, outcome)
    steady = measure_clip(clip, ClipOutcome(frames=to_bytes(clip.edited.frames)))
    for metric in ("warp_inside", "warp_error", "flicker", "flicker_inside"):
        # An edit that goes on and off is worse than twice the blur of the truth.
        assert float(row[metric] or 0) > 2 * float(steady[metric] or 0)
    assert float(row["flicker_inside"] or 0) > 2 * float(row["flicker"] or 0)
    assert (row["seconds_edit"], row["refused"], row["psnr_fit"]) == (3.0, 0.25, 31.0)


def test_means_leave_out_what_has_no_meaning(clip: Clip):
    assert mean([1.0, math.inf, math.nan, 3.0]) == 2
    assert math.isnan(mean([math.inf]))
    values = [
        measure_clip(clip, ClipOutcome(frames=to_bytes(clip.source.frames), refused=share)) for share in (0.0, 0.5)
    ]
    row = summarise_clips("unedited", "clips", values)
    assert list(row) == ["method", "set", "clips", *METRICS]
    assert (row["clips"], row["mask_iou"], row["seconds_fit"]) == (2, None, None)
    assert row["refused"] == 0.25
    assert row["psnr_truth"] == pytest.approx(values[0]["psnr_truth"])


def test_bytes_are_rounded_and_clamped():
    shares = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.2]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_bytes(shares)[0, 0, 0].tolist() == [0, 0, 0, 1, 255, 255]
