"""Scores of the segmenter: overlaps against a count by hand, and what an untrained network gets."""

import pytest
import torch

from maskedit.bench.blocks import vocabulary
from maskedit.bench.embedded.segmenter import SegmenterRecipe, TrainedSegmenter, build_segmenter
from maskedit.bench.embedded.segmenter_scores import THRESHOLDS, SegmenterScores, measure_segmenter, overlaps_at
from maskedit.bench.embedded.tokenizer import build_tokenizer
from maskedit.bench.embedded.views import ViewsRecipe

RECIPE = SegmenterRecipe(
    views=ViewsRecipe(image_size=32, twins_share=0.7),
    vision_width=32,
    text_width=32,
    text_layers=1,
    decoder_width=16,
    heads=2,
    vision_layers=3,
    extract_layers=(0, 1, 2),
)


def measure(bias: float) -> SegmenterScores:
    """Scores of a network that gives about the same probability everywhere."""
    tokenizer = build_tokenizer(vocabulary(), length=RECIPE.text_length)
    model = build_segmenter(RECIPE, tokenizer).eval()
    with torch.no_grad():
        model.decoder.transposed_convolution.get_parameter("weight").zero_()
        model.decoder.transposed_convolution.get_parameter("bias").fill_(bias)
    return measure_segmenter(
        TrainedSegmenter(model=model, tokenizer=tokenizer, step=0), RECIPE, device="cpu", split="test", count=12
    )


def test_overlaps_are_shared_pixels_over_all_pixels():
    truth = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    probability = torch.tensor([[0.65, 0.35, 0.45, 0.0]])
    by_hand = torch.tensor([2 / 3, 1 / 3, 1 / 2, 1 / 2, 0.0])
    assert len(THRESHOLDS) == len(by_hand)
    torch.testing.assert_close(overlaps_at(probability, truth), by_hand)


def test_nothing_found_overlaps_nothing_and_finds_nothing_absent():
    scores = measure(-20.0)
    assert set(scores.iou) == set(scores.phrases) - {"absent"}
    assert all(set(row) == {0.0} for row in scores.iou.values())
    assert scores.absent_found == (0.0,) * len(THRESHOLDS)
    assert scores.phrases["absent"] == 24


def test_everything_found_overlaps_as_much_as_the_targets_cover():
    scores = measure(0.4)
    assert scores.absent_probability == pytest.approx(0.5987, abs=1e-3)
    assert scores.absent_found == (1.0, 1.0, 1.0, 0.0, 0.0)
    for row in scores.iou.values():
        assert 0.008 <= row[0] < 0.6
        assert row[0] == row[2] and row[3] == row[4] == 0.0
    assert measure(0.4) == scores
