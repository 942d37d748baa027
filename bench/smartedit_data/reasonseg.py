"""LISA's ReasonSeg (arXiv 2308.00692) as editing: colour what a question asks for.

`NAME.jpg` with `NAME.json`: `text` is one wording or several, `is_sentence` tells questions from phrases, `shapes` are
polygons labelled "target" or "ignore". Where SmartEdit's authors added the object's name (`Name`), it is used.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ...editors import InputError, Sample
from .layout import find_folder, laid_out, read_text
from .painting import choose, painting_sample
from .pictures import read_picture

_FORM = "text, is_sentence and shapes with label and points, as ReasonSeg has them"
_ASKED = "what this asks for"


class ReasonSeg:
    """The training part; its annotations are small and read with their photo."""

    def __init__(self, root: Path) -> None:
        """Index the annotations.

        Args:
            root: the folder `train` of the set, or one above it.

        Raises:
            InputError: if there are none.
        """
        names = ("train", "ReasonSeg/train", "reason_seg/ReasonSeg/train", ".")
        folder = find_folder(root, names, "annotations of ReasonSeg", holding="*.json")
        self._annotations = tuple(sorted(folder.glob("*.json")))

    def __len__(self) -> int:
        """How many photos are annotated."""
        return len(self._annotations)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One photo with what is asked for coloured.

        Raises:
            InputError: if the photo is missing, or the annotation is damaged.
        """
        path = self._annotations[index]
        image = read_picture(path.with_suffix(".jpg"))
        try:
            record = json.loads(read_text(path))
        except ValueError as error:
            raise InputError(f"cannot read {path} ({error}): download it again") from error
        with laid_out(path, _FORM):
            said = choose([record["text"]] if isinstance(record["text"], str) else record["text"], rng).strip()
            mask = _draw(record["shapes"], *image.shape[1:])
            if record.get("Name"):
                return painting_sample(image, mask, str(record["Name"]), rng, before=said)
            if record["is_sentence"]:
                return painting_sample(image, mask, _ASKED, rng, before=said)
            return painting_sample(image, mask, said, rng)


def _draw(shapes: Sequence[Any], height: int, width: int) -> Bool[Tensor, "height width"]:
    """What is meant, without what the annotators left open; smaller shapes lie over larger ones, as LISA reads them."""
    drawn: list[tuple[int, bool, np.ndarray]] = []
    for shape in shapes:
        label = str(shape["label"]).lower()
        if label == "flag":
            continue
        points = np.asarray(shape["points"], dtype=np.int32).reshape(-1, 2)
        filled = np.zeros((height, width), np.uint8)
        cv2.fillPoly(filled, [points], (1,))
        drawn.append((int(filled.sum()), "ignore" not in label, filled.astype(bool)))
    mask = np.zeros((height, width), bool)
    for _, is_target, filled in sorted(drawn, key=lambda each: -each[0]):
        mask[filled] = is_target
    return torch.from_numpy(mask)
