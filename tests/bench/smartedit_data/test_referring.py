"""RefCOCO and gRefCOCO as editing."""

import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.masks import polygons_to_mask
from maskedit.bench.smartedit_data.referring import Referring
from maskedit.editors import InputError

ONE = polygons_to_mask([[2, 2, 8, 2, 8, 8, 2, 8]], 12, 16)
OTHER = polygons_to_mask([[10, 2, 14, 2, 14, 6, 10, 6]], 12, 16)


def changed(sample: object) -> torch.Tensor:
    return (sample.target != sample.image).any(0)


def test_the_training_part_is_read(sets: Path, rng: np.random.Generator) -> None:
    source = Referring(sets / "refcoco")
    assert len(source) == 2
    sample = source.read(0, rng)
    assert "thing 0" in sample.text
    assert torch.equal(changed(sample), ONE)
    crowd = torch.zeros(12, 16, dtype=torch.bool)
    crowd[:, :2] = True
    assert torch.equal(changed(source.read(1, rng)), crowd)


def test_an_expression_may_mean_several_or_none(sets: Path, rng: np.random.Generator) -> None:
    source = Referring(sets / "grefcoco", "grefcoco")
    assert torch.equal(changed(source.read(0, rng)), ONE | OTHER)
    assert not changed(source.read(1, rng)).any()


def test_corners_are_held_small_and_once(own_sets: Path) -> None:
    root = own_sets / "grefcoco"
    instances = json.loads((root / "instances.json").read_text())
    instances["annotations"][0]["segmentation"] = [[0.1 * n for n in range(1000)]]
    (root / "instances.json").write_text(json.dumps(instances))
    refs = json.loads((root / "grefs(unc).json").read_text())
    (root / "grefs(unc).json").write_text(json.dumps(refs * 20))
    # 1000 numbers of 4 bytes, for 20 references; as Python's floats they are 9 bytes each when pickled.
    assert len(pickle.dumps(Referring(root, "grefcoco"))) < 4000 + 8000


def test_pickles_are_not_opened_and_can_be_converted(own_sets: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    folder = own_sets / "refcoco" / "refcoco"
    trap = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trap,)

    refs = json.loads((folder / "refs(unc).json").read_text())
    (folder / "refs(unc).json").unlink()
    (folder / "refs(unc).p").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"refs\(unc\)\.p is a pickle, which runs what it holds") as caught:
        Referring(own_sets / "refcoco")
    assert not trap.exists() and "\n" not in str(caught.value)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs))
    command = shlex.split(str(caught.value).partition("convert it once with ")[2])
    subprocess.run([sys.executable, *command[1:]], cwd=folder, check=True)
    assert len(Referring(own_sets / "refcoco")) == 2


def test_damage_is_told(own_sets: Path, rng: np.random.Generator) -> None:
    root = own_sets / "grefcoco"
    source = Referring(root, "grefcoco")
    photo = own_sets / "coco" / "train2014" / "COCO_train2014_000000000001.jpg"
    photo.with_name("COCO_train2014_000000000002.jpg").unlink()
    with pytest.raises(InputError, match=r"found none at .*0002\.jpg"):
        source.read(1, rng)
    instances = json.loads((root / "instances.json").read_text())
    instances["images"][0]["width"] = 20
    (root / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(InputError, match=r"0001\.jpg has 16 x 12 pixels, its masks 20 x 12"):
        Referring(root, "grefcoco").read(0, rng)
    instances["images"][0]["width"] = 16
    instances["annotations"][0]["segmentation"] = [[1, 2]]
    (root / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(InputError, match=r"grefs\(unc\)\.json .*at least 3 corners.*COCO_train2014_000000000001\.jpg"):
        Referring(root, "grefcoco").read(0, rng)
    del instances["annotations"][0]
    (root / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(InputError, match=r"grefs\(unc\)\.json .*\(no 10\)"):
        Referring(root, "grefcoco")
    (root / "instances.json").unlink()
    with pytest.raises(InputError, match="no masks for"):
        Referring(root, "grefcoco")


def test_a_set_without_a_training_part_is_refused(own_sets: Path) -> None:
    (own_sets / "grefcoco" / "grefs(unc).json").write_text("[]")
    with pytest.raises(InputError, match="holds no expressions of the split 'train'"):
        Referring(own_sets / "grefcoco", "grefcoco")
