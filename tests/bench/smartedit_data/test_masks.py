"""Masks as COCO stores them, compared with COCO's own decoder."""

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from maskedit.bench.smartedit_data.masks import (
    pack_segmentation,
    polygons_to_mask,
    runs_to_mask,
    segmentation_to_mask,
)

HEIGHT, WIDTH = 40, 60


def blobs(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).random((8, 12)) < 0.4
    return np.kron(coarse, np.ones((5, 5), bool))


def by_coco(polygon: Any) -> np.ndarray:
    # Its own decoding warns under recent numpy; that our decoding of its runs is exact is tested below.
    packed: Any = coco.merge(coco.frPyObjects([polygon], HEIGHT, WIDTH))
    return runs_to_mask(packed["counts"].decode(), HEIGHT, WIDTH).numpy()


def test_rectangles_are_exact() -> None:
    mask = polygons_to_mask([[2, 3, 7, 3, 7, 9, 2, 9]], HEIGHT, WIDTH)
    expected = torch.from_numpy(by_coco([2, 3, 7, 3, 7, 9, 2, 9]))
    assert torch.equal(mask, expected)
    assert mask.sum() == 30


@pytest.mark.parametrize("seed", range(5))
def test_polygons_agree_with_coco(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    radii = rng.uniform(10, 18, 12)
    corners = np.stack([30 + radii * np.cos(angles), 20 + radii * np.sin(angles)], -1)
    polygon = corners.reshape(-1).tolist()
    ours = polygons_to_mask([polygon], HEIGHT, WIDTH).numpy()
    theirs = by_coco(polygon)
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.96


def test_overlapping_polygons_leave_no_hole() -> None:
    one, other = [2, 2, 12, 2, 12, 12, 2, 12], [6, 6, 16, 6, 16, 16, 6, 16]
    both = polygons_to_mask([one, other], HEIGHT, WIDTH)
    parts = [polygons_to_mask([each], HEIGHT, WIDTH) for each in (one, other)]
    assert torch.equal(both, parts[0] | parts[1])
    assert both[8, 8]


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_coco_s(seed: int) -> None:
    mask = blobs(seed)
    packed: Any = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = packed["counts"].decode()
    assert np.array_equal(runs_to_mask(text, HEIGHT, WIDTH).numpy(), mask)
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    assert np.array_equal(
        segmentation_to_mask({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH).numpy(), mask
    )


def test_packed_segmentations_are_small_and_give_the_same_mask() -> None:
    rng = np.random.default_rng(0)
    polygons = [(rng.random((50, 2)) * (WIDTH, HEIGHT)).round(2).reshape(-1).tolist() for _ in range(2)]
    packed: Any = pack_segmentation(polygons)
    assert sum(polygon.nbytes for polygon in packed) == 4 * 200
    runs = {"size": [HEIGHT, WIDTH], "counts": [100, 200, 2100]}
    text = {"size": [HEIGHT, WIDTH], "counts": coco.encode(np.asfortranarray(blobs(0), np.uint8))["counts"].decode()}
    for segmentation in (polygons, runs, text):
        wanted = segmentation_to_mask(segmentation, HEIGHT, WIDTH)
        assert torch.equal(segmentation_to_mask(pack_segmentation(segmentation), HEIGHT, WIDTH), wanted)


def test_damaged_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 corners of 2 numbers, got 5 numbers"):
        polygons_to_mask([[0, 0, 1, 1, 2]], HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="runs must fill 2400 pixels, got 30"):
        runs_to_mask([10, 20], HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"size of the runs must be \[40, 60\], got \[60, 40\]"):
        segmentation_to_mask({"size": [60, 40], "counts": [2400]}, HEIGHT, WIDTH)
