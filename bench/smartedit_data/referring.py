"""RefCOCO (arXiv 1608.00272) and gRefCOCO (arXiv 2306.00968) as editing: colour what an expression refers to.

`instances.json` holds the masks, `refs(unc)` or `grefs(unc)` the expressions, the photos are those of COCO's train2014.
An expression of gRefCOCO may refer to several objects, or to none, and then nothing may change. RefCOCO's expressions
are published as a pickle, which runs what it holds when it is opened; they are read as JSON only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ...editors import InputError, Sample
from .layout import COCO_2014, find_file, find_folder, laid_out, read_annotations
from .masks import Segmentation, pack_segmentation, segmentation_to_mask
from .painting import choose, painting_sample
from .pictures import read_picture

_CONVERT = (
    "python -c \"import json, pickle, sys; json.dump(pickle.load(open(sys.argv[1], 'rb')), open(sys.argv[2], 'w'))\""
)
_REFS = "records with split, image_id, ann_id and sentences, and instances.json with images and annotations"


@dataclass(frozen=True, kw_only=True)
class _Reference:
    photo: str
    size: tuple[int, int]
    segmentations: tuple[Segmentation, ...]
    sentences: tuple[str, ...]


class _Shapes:
    """Segmentations by number, packed when first asked for and held once, since several groups share objects."""

    def __init__(self, segmentations: dict[int, Any]) -> None:
        self._segmentations = segmentations
        self._packed: dict[int, Segmentation] = {}

    def __getitem__(self, number: int) -> Segmentation:
        if number not in self._packed:
            self._packed[number] = pack_segmentation(self._segmentations[number])
        return self._packed[number]


class Referring:
    """Expressions of the training part; one sample an object or group, its expression drawn at each visit."""

    def __init__(self, root: Path, dataset: Literal["refcoco", "grefcoco"] = "refcoco") -> None:
        """Index the expressions.

        Args:
            root: the folder of the annotations, or the one above it; photos in `images/train2014` and the like.
            dataset: which of the two.

        Raises:
            InputError: if annotations or photos are missing, or there are only pickles.
        """
        letter = "g" if dataset == "grefcoco" else ""
        folder = root / dataset if (root / dataset).is_dir() else root
        self._listing = _find_refs(folder, f"{letter}refs(unc)")
        instances = find_file(folder, ("instances.json",), "masks")
        with laid_out(self._listing, _REFS):
            refs, objects = read_annotations(self._listing), read_annotations(instances)
            images = {image["id"]: image for image in objects["images"]}
            shapes = _Shapes({each["id"]: each["segmentation"] for each in objects["annotations"]})
            self._references = tuple(_reference(ref, images, shapes) for ref in refs if ref["split"] == "train")
        if not self._references:
            raise InputError(f"{self._listing} holds no expressions of the split 'train': expected {_REFS}")
        self._photos = find_folder(root, COCO_2014, "photos of COCO's train2014", holding="*.jpg")

    def __len__(self) -> int:
        """How many objects or groups are referred to."""
        return len(self._references)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One photo with what an expression refers to coloured.

        Raises:
            InputError: if the photo is missing or of another size, or a mask is damaged.
        """
        reference = self._references[index]
        path = self._photos / reference.photo
        image = read_picture(path)
        if tuple(image.shape[1:]) != reference.size:
            (height, width), (high, wide) = reference.size, image.shape[1:]
            raise InputError(f"{path} has {wide} x {high} pixels, its masks {width} x {height}: expected the same")
        mask = torch.zeros(reference.size, dtype=torch.bool)
        with laid_out(self._listing, f"whole masks for {reference.photo}"):
            for segmentation in reference.segmentations:
                mask |= segmentation_to_mask(segmentation, *reference.size)
        return painting_sample(image, mask, choose(reference.sentences, rng), rng)


def _find_refs(folder: Path, stem: str) -> Path:
    pickled = next((folder / f"{stem}{end}" for end in (".p", ".pickle") if (folder / f"{stem}{end}").is_file()), None)
    if pickled is not None and not (folder / f"{stem}.json").is_file():
        raise InputError(
            f"{pickled} is a pickle, which runs what it holds, and is not opened: if you trust where it came from, "
            f"convert it once with {_CONVERT} '{stem}{pickled.suffix}' '{stem}.json'"
        )
    return find_file(folder, (f"{stem}.json",), "list of expressions")


def _reference(ref: Any, images: dict[int, Any], shapes: _Shapes) -> _Reference:
    image = images[ref["image_id"]]
    objects = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
    sentences = tuple(str(each["sent"]).strip() for each in ref["sentences"])
    if not sentences:
        raise ValueError("an object without an expression")
    return _Reference(
        photo=image["file_name"],
        size=(image["height"], image["width"]),
        # -1 says that nothing in the picture is meant.
        segmentations=tuple(shapes[each] for each in objects if each != -1),
        sentences=sentences,
    )
