"""CLIPSeg: its maps are the library's own, its regions are connected, and it says when nothing is found."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from maskedit.editors.core.errors import InputError, ModelError, NothingFoundError
from maskedit.editors.core.images import image_to_pil
from maskedit.editors.parts.clipseg import CLIPSegGrounder, find_regions, load_clipseg
from maskedit.editors.parts.grounding_options import GroundingConfig

PHRASES = ["left cube", "the red spheres"]
Make = Callable[..., torch.Tensor]


@pytest.fixture
def load(clipseg_folder: Path) -> Callable[..., CLIPSegGrounder]:
    def make(folder: Path | None = None, **options: object) -> CLIPSegGrounder:
        config = GroundingConfig(segmenter="clipseg", clipseg=str(folder or clipseg_folder), **options)
        return load_clipseg(config, device="cpu", model_dir=None, offline=True)

    return make


@pytest.fixture
def copy(clipseg_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to change."""
    return Path(shutil.copytree(clipseg_folder, tmp_path / "clipseg"))


def test_maps_are_those_of_the_library(
    load: Callable, clipseg_folder: Path, pictures: Make, tolerance: Callable
) -> None:
    image = pictures(1, 48, 80)
    network = CLIPSegForImageSegmentation.from_pretrained(clipseg_folder).eval()
    processor = CLIPSegProcessor.from_pretrained(clipseg_folder)
    picture = image_to_pil(image)
    inputs = processor(text=PHRASES, images=[picture] * 2, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = network(**inputs).logits
    assert logits.shape == (2, 64, 64)
    # 48 rows shrink the map of 64, 80 columns stretch it.
    expected = F.interpolate(logits.sigmoid()[:, None], (48, 80), mode="bilinear", antialias=True)
    maps = torch.cat(load().probabilities(image, PHRASES))
    torch.testing.assert_close(maps, expected, **vars(tolerance(torch.float32)))
    assert not torch.allclose(maps[0], maps[1], atol=1e-2)


def test_every_phrase_is_found_in_every_picture(load: Callable, pictures: Make) -> None:
    image = pictures(2, 48, 80)
    grounder = load(mask_mode="merge", min_area=0.0)
    found = grounder.ground(image, PHRASES)
    maps = grounder.probabilities(image, PHRASES)
    assert [[one.phrase for one in row] for row in found] == [PHRASES, PHRASES]
    for picture, row in enumerate(found):
        for phrase, one in enumerate(row):
            assert one.mask.shape == (1, 48, 80)
            assert torch.equal(one.mask, (maps[phrase][picture] > 0.5).float())
            assert one.boxes.shape == (len(one.scores), 4)
            assert one.scores.max() == maps[phrase][picture].max()


def test_max_keeps_one_region_of_those_merged(load: Callable, pictures: Make) -> None:
    image = pictures()
    merged, best = (load(mask_mode=mode).ground(image, PHRASES[:1])[0][0] for mode in ("merge", "max"))
    assert len(best.scores) > 1
    assert (merged.mask >= best.mask).all() and merged.mask.sum() > best.mask.sum() > 0
    rows, columns = best.mask[0].nonzero().unbind(1)
    box = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
    assert torch.equal(box, best.boxes[best.scores.argmax()])


def test_a_batch_equals_its_pictures_one_by_one(load: Callable, pictures: Make, tolerance: Callable) -> None:
    image = pictures(3, 64, 40)
    grounder = load()
    for phrase, together in enumerate(grounder.probabilities(image, PHRASES)):
        alone = torch.cat([grounder.probabilities(row[None], PHRASES[phrase : phrase + 1])[0] for row in image])
        torch.testing.assert_close(together, alone, **vars(tolerance(torch.float32)))


def test_nothing_found_is_an_error_with_the_best_score(load: Callable, pictures: Make) -> None:
    image = pictures(2)
    with pytest.raises(NothingFoundError) as caught:
        load(mask_threshold=0.99).ground(image, PHRASES)
    assert (caught.value.phrase, caught.value.threshold) == (PHRASES[0], 0.99)
    assert "lower --grounding.mask-threshold or" in str(caught.value)
    assert caught.value.score == pytest.approx(float(load().probabilities(image, PHRASES)[0][0].max()))


def test_phrases_that_are_empty_or_too_long_are_refused(load: Callable, pictures: Make) -> None:
    with pytest.raises(InputError, match="at most 77 tokens, got 102"):
        load().ground(pictures(), ["x" * 100])
    for phrases in ([], ["cube", " "]):
        with pytest.raises(InputError, match="name the object"):
            load().ground(pictures(), phrases)


def scattered() -> torch.Tensor:
    """Two pixels that touch at a corner, a block of four, and one pixel alone."""
    probability = torch.zeros(6, 8)
    probability[0, 0], probability[1, 1], probability[4:, 5:7], probability[2, 7] = 0.7, 0.9, 0.6, 0.95
    probability[5, 6] = 0.8
    return probability


def test_regions_are_connected_over_corners() -> None:
    probability = scattered()
    regions = find_regions(probability, 0.5)
    assert torch.equal(regions.boxes, torch.tensor([[0.0, 0, 2, 2], [7, 2, 8, 3], [5, 4, 7, 6]]))
    torch.testing.assert_close(regions.scores, torch.tensor([0.9, 0.95, 0.8]))
    assert torch.equal(regions.labels > 0, probability > 0.5)
    for number, box in enumerate(regions.boxes.int().tolist(), 1):
        rows, columns = (regions.labels == number).nonzero().unbind(1)
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box
        assert probability[rows, columns].max() == regions.scores[number - 1]


@pytest.mark.parametrize(("least", "left"), [(1.0, 3), (2.0, 2), (2.5, 1), (4.0, 1), (5.0, 0)])
def test_small_regions_are_left_out(least: float, left: int) -> None:
    regions = find_regions(scattered(), 0.5, least=least)
    assert (len(regions.boxes), len(regions.scores), int(regions.labels.max())) == (left, left, left)
    if left == 1:
        assert torch.equal(regions.labels > 0, torch.isin(scattered(), torch.tensor([0.6, 0.8])))


def test_an_empty_map_has_no_regions() -> None:
    regions = find_regions(torch.full((4, 5), 0.5), 0.5)
    assert not regions.labels.any()
    assert regions.boxes.shape == (0, 4)
    assert regions.scores.shape == (0,)


def test_specks_do_not_count_as_found(load: Callable, pictures: Make) -> None:
    image = pictures()
    every, large = (load(min_area=area, mask_mode="merge").ground(image, PHRASES[:1])[0][0] for area in (0.0, 0.05))
    sizes = find_regions(load().probabilities(image, PHRASES[:1])[0][0, 0], 0.5).labels.flatten().bincount()[1:]
    kept = sizes >= 0.05 * image[0, 0].numel()
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(large.boxes, every.boxes[kept])
    assert large.mask.sum() == sizes[kept].sum()
    with pytest.raises(
        NothingFoundError, match=r"only specks found for 'left cube', each under 99 % .*lower --grounding.min-area"
    ):
        load(min_area=0.99).ground(image, PHRASES[:1])


def test_a_checkpoint_brings_its_settings(load: Callable, copy: Path) -> None:
    (copy / "maskedit.json").write_text(json.dumps({"mask_threshold": 0.35, "knows": "cubes"}))
    assert (load(copy).mask_threshold, load(copy).knows) == (0.35, "cubes")
    assert load(copy, mask_threshold=0.6).mask_threshold == 0.6
    assert (load().mask_threshold, load().knows) == (0.5, "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot read .*maskedit.json"),
        ("[]", "expected an object of settings, got a list"),
        ('{"mask_threshold": 2.0}', r"mask_threshold must be in \[0, 1\), got 2.0"),
        ('{"knows": 3}', "knows must be some text, got 3"),
    ],
)
def test_settings_that_cannot_be_understood_are_refused(load: Callable, copy: Path, text: str, problem: str) -> None:
    (copy / "maskedit.json").write_text(text)
    with pytest.raises(ModelError, match=problem):
        load(copy)
