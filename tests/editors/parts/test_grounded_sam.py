"""Grounded SAM: boxes are the library's own, retries go down, masks are SAM's, and finding nothing is an error."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, GroundingDinoProcessor

from maskedit.editors.core.errors import InputError, ModelError, NothingFoundError
from maskedit.editors.core.images import image_to_pil
from maskedit.editors.parts.grounded_sam import GroundedSam, detection_text, load_grounded_sam
from maskedit.editors.parts.grounding_options import GroundingConfig

PHRASES = ["Red cube", "the dogs."]
Make = Callable[..., torch.Tensor]


@pytest.fixture
def load(grounding_dino_folder: Path, sam_file: Path) -> Callable[..., GroundedSam]:
    def make(**options: object) -> GroundedSam:
        places = {"detector": str(grounding_dino_folder), "sam": str(sam_file), **options}
        return load_grounded_sam(GroundingConfig(**places), device="cpu", model_dir=None, offline=True)

    return make


@pytest.mark.parametrize("threshold", [0.1, 0.6])
def test_boxes_are_those_of_the_library(
    load: Callable, grounding_dino_folder: Path, pictures: Make, tolerance: Callable, threshold: float
) -> None:
    image = pictures(2, 48, 80)
    detector = GroundingDinoForObjectDetection.from_pretrained(grounding_dino_folder).eval()
    processor = GroundingDinoProcessor.from_pretrained(grounding_dino_folder)
    detected = load(box_threshold=threshold).detect(image, PHRASES)
    sides = torch.tensor([80.0, 48.0, 80.0, 48.0])
    for column, text in enumerate(["red cube.", "the dogs."]):
        for row, picture in enumerate(image):
            inputs = processor(images=image_to_pil(picture[None]), text=text, return_tensors="pt")  # pyright: ignore[reportCallIssue]
            with torch.no_grad():
                outputs = detector(**inputs)
            (expected,) = processor.post_process_grounded_object_detection(
                outputs, inputs.input_ids, threshold=threshold, text_threshold=0.25, target_sizes=[(48, 80)]
            )
            boxes = detected[row][column]
            torch.testing.assert_close(boxes.scores, expected["scores"], **vars(tolerance(torch.float32)))
            inside = torch.minimum(expected["boxes"].clamp(min=0), sides)
            torch.testing.assert_close(boxes.corners, inside, atol=1e-3, rtol=1e-4)
            # The library takes the last token for a word.
            assert boxes.labels == tuple(label.replace("[SEP]", "").strip(" .") for label in expected["text_labels"])
            assert len(boxes.scores) > 1


def test_a_batch_of_phrases_equals_one_by_one(load: Callable, pictures: Make, tolerance: Callable) -> None:
    image = pictures(2, 64, 40)
    grounder = load(box_threshold=0.1)
    together = grounder.detect(image, PHRASES)
    for row, picture in enumerate(image):
        for column, phrase in enumerate(PHRASES):
            ((alone,),) = grounder.detect(picture[None], [phrase])
            torch.testing.assert_close(together[row][column].scores, alone.scores, **vars(tolerance(torch.float32)))
            torch.testing.assert_close(together[row][column].corners, alone.corners, atol=1e-3, rtol=1e-4)


def test_masks_are_sams_of_the_boxes_that_count(load: Callable, pictures: Make) -> None:
    image = pictures(2, 48, 80)
    found = {mode: load(box_threshold=0.2, mask_mode=mode).ground(image, PHRASES) for mode in ("max", "first", "merge")}
    sam = load().sam
    for row, picture in enumerate(image):
        for column, phrase in enumerate(PHRASES):
            best, first, merged = (found[mode][row][column] for mode in ("max", "first", "merge"))
            assert best.phrase == phrase
            assert best.mask.shape == (1, 48, 80)
            assert torch.equal(best.boxes, merged.boxes) and len(best.labels) == len(best.boxes) == len(best.scores) > 1
            assert ((best.scores > 0.2) & (best.scores <= 1)).all()
            assert torch.equal(best.mask, sam.masks(picture, best.boxes[best.scores.argmax()][None]).float())
            assert torch.equal(first.mask, sam.masks(picture, first.boxes[:1]).float())
            assert (merged.mask >= best.mask).all() and merged.mask.sum() > best.mask.sum() > 0
            assert merged.mask.unique().tolist() == [0.0, 1.0]


def test_each_picture_is_encoded_once_for_all_phrases(load: Callable, pictures: Make) -> None:
    grounder = load(box_threshold=0.2)
    grounder.ground(pictures(2), PHRASES)
    grounder.ground(pictures(2), PHRASES[:1])
    assert grounder.sam.encoded == 2


def test_lower_thresholds_are_tried_in_turn(load: Callable, pictures: Make) -> None:
    image = pictures(1, 48, 80)
    scores = load(box_threshold=0.0).detect(image, PHRASES[:1])[0][0].scores.sort(descending=True).values
    between = [float(scores[i] + scores[i + 1]) / 2 for i in range(5)]
    above = (float(scores[0]) + 1) / 2
    # A retry above the first threshold, or one after a success, changes nothing.
    for retries, count in (((between[0], between[3]), 1), ((between[2], between[0]), 3), ((0.999999, between[4]), 5)):
        (((found,),)) = load(box_threshold=above, retry_thresholds=retries).detect(image, PHRASES[:1])
        assert len(found.scores) == count
        torch.testing.assert_close(found.scores.sort(descending=True).values, scores[:count])


def test_nothing_found_is_an_error_with_the_best_score(load: Callable, pictures: Make) -> None:
    image = pictures(1, 48, 80)
    best = float(load(box_threshold=0.0).detect(image, PHRASES)[0][0].scores.max())
    with pytest.raises(NothingFoundError) as caught:
        load(box_threshold=0.9999999, retry_thresholds=(0.9999998,)).ground(image, PHRASES)
    assert caught.value.phrase == PHRASES[0]
    assert caught.value.score == pytest.approx(best)
    assert caught.value.threshold == pytest.approx(0.9999998)
    assert "lower --grounding.retry-thresholds or" in str(caught.value)


def test_a_box_in_which_sam_finds_nothing_is_an_error(load: Callable, pictures: Make) -> None:
    grounder = load(box_threshold=0.2)
    grounder.sam._predictor.model.mask_threshold = 1e6
    with pytest.raises(NothingFoundError, match="'Red cube'"):
        grounder.ground(pictures(), PHRASES)


def test_phrases_that_are_empty_or_too_long_are_refused(load: Callable, pictures: Make) -> None:
    with pytest.raises(InputError, match="at most 16 tokens, got 23"):
        load().ground(pictures(), ["red " * 20])
    for phrases in ([], ["cube", " . "]):
        with pytest.raises(InputError, match="name the object"):
            load().ground(pictures(), phrases)


@pytest.mark.parametrize("phrase", ["Red cube", " red cube. ", "red CUBE .", "red cube"])
def test_phrases_are_written_as_the_detector_was_trained(phrase: str) -> None:
    assert detection_text(phrase) == "red cube."


def test_checkpoints_that_are_missing_are_named(load: Callable, grounding_dino_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="as the detector, found nothing at 'absent'"):
        load(detector="absent")
    with pytest.raises(ModelError, match=r"no weights of SAM at 'absent.pth'"):
        load(sam="absent.pth")
    copy = Path(shutil.copytree(grounding_dino_folder, tmp_path / "copy"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickle weights"):
        load(detector=str(copy))


def test_the_published_size_can_be_built() -> None:
    """Swin-T as published: the library's defaults are those of the detector, but for its backbone."""
    backbone = AutoConfig.for_model(
        "swin",
        window_size=7,
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        out_features=["stage2", "stage3", "stage4"],
    )
    with torch.device("meta"):
        network = GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=backbone))
    # The published file holds 172 million weights.
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(172e6, rel=0.01)
    assert (network.config.max_text_len, network.config.num_queries) == (256, 900)
