"""COCO-Stuff as editing."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.cocostuff import EMPTY_SHARE, CocoStuff
from maskedit.editors import InputError


def changed(sample: object) -> torch.Tensor:
    return (sample.target != sample.image).any(0)


def test_a_class_of_the_picture_is_coloured(sets: Path) -> None:
    source = CocoStuff(sets / "cocostuff")
    assert len(source) == 2
    rows = {"person": range(4), "car": range(4, 6), "bicycle": range(0)}
    counts = dict.fromkeys(rows, 0)
    for seed in range(300):
        sample = source.read(0, np.random.default_rng(seed))
        (name,) = [name for name in rows if f" {name}" in sample.text]
        counts[name] += 1
        outside = [row for row in range(12) if row not in rows[name]]
        assert torch.equal(sample.target[:, outside], sample.image[:, outside])
        # A pixel that has the colour already does not change.
        assert not rows[name] or changed(sample)[rows[name].start : rows[name].stop].float().mean() > 0.9
    assert abs(counts["bicycle"] / 300 - EMPTY_SHARE) < 0.07
    assert abs(counts["person"] - counts["car"]) < 60


def test_nothing_labelled_is_nothing_changed(sets: Path, rng: np.random.Generator) -> None:
    sample = CocoStuff(sets / "cocostuff").read(1, rng)
    assert sample.text == "Leave the picture as it is."
    assert torch.equal(sample.target, sample.image)


def test_other_layouts_are_found(own_sets: Path, rng: np.random.Generator) -> None:
    root = own_sets / "cocostuff"
    before = CocoStuff(root).read(0, np.random.default_rng(1))
    (root / "annotations").mkdir()
    (root / "train2017").rename(root / "annotations" / "train2017")
    (root / "images").mkdir()
    (own_sets / "coco" / "train2017").rename(root / "images" / "train2017")
    after = CocoStuff(root).read(0, np.random.default_rng(1))
    assert after.text == before.text and torch.equal(after.target, before.target)


def test_damage_is_told(own_sets: Path, rng: np.random.Generator) -> None:
    root = own_sets / "cocostuff"
    source = CocoStuff(root)
    path = root / "train2017" / "000000000001.png"
    cv2.imwrite(str(path), np.full((12, 16), 77, np.uint8))
    with pytest.raises(InputError, match=r"0001\.png holds the class 78, which labels\.txt does not name"):
        [source.read(0, np.random.default_rng(seed)) for seed in range(50)]
    cv2.imwrite(str(path), np.zeros((8, 16), np.uint8))
    with pytest.raises(InputError, match=r"0001\.png has 16 x 8 pixels, its photo 16 x 12"):
        source.read(0, rng)
    (own_sets / "coco" / "train2017" / "000000000002.jpg").unlink()
    with pytest.raises(InputError, match=r"found none at .*0002\.jpg"):
        source.read(1, rng)
    for content in ("", "person\n", "1:\n"):
        (root / "labels.txt").write_text(content)
        with pytest.raises(InputError, match=r"labels\.txt is not of the form"):
            CocoStuff(root)
    (root / "labels.txt").unlink()
    with pytest.raises(InputError, match="no list of classes for"):
        CocoStuff(root)
