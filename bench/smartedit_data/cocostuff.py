"""COCO-Stuff (arXiv 1612.03716) as editing: colour one class of the picture, or one that is not in it.

Photos of COCO's train2017, for each a `.png` of class numbers (`stuffthingmaps`), and `labels.txt` with lines
`NUMBER: NAME`, which counts from 1 where the pictures count from 0; 255 is what nobody labelled.
"""

from pathlib import Path

import numpy as np
import torch

from ...editors import InputError, Sample
from .layout import COCO_2017, find_file, find_folder, laid_out, read_text
from .painting import painting_sample
from .pictures import read_levels, read_picture

EMPTY_SHARE = 0.2
"""How often a class is named that the picture does not show, so that nothing may be coloured."""
_UNLABELLED = 255
_LABELS = ("labels.txt", "coco_stuff_labels.txt", "annotations/labels.txt", "ft_local/coco_stuff_labels.txt")
_MAPS = ("annotations/train2017", "stuffthingmaps/train2017", "train2017", "stuffthingmaps_trainval2017/train2017")


class CocoStuff:
    """One sample a photo; which class is coloured is drawn at each visit."""

    def __init__(self, root: Path) -> None:
        """Index the maps that are there.

        Args:
            root: the folder of `labels.txt` and the maps; photos beside them, or in a folder `coco` beside it.

        Raises:
            InputError: if maps, photos or labels are missing.
        """
        self._labels = _read_labels(find_file(root, _LABELS, "list of classes"))
        self._maps = tuple(sorted(find_folder(root, _MAPS, "maps of classes", holding="*.png").glob("*.png")))
        self._photos = find_folder(root, COCO_2017, "photos of COCO's train2017", holding="*.jpg")

    def __len__(self) -> int:
        """How many photos are labelled."""
        return len(self._maps)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One photo with one class coloured.

        Raises:
            InputError: if the photo is missing, or it and its map differ in size.
        """
        path = self._maps[index]
        numbers, image = read_levels(path), read_picture(self._photos / f"{path.stem}.jpg")
        if numbers.shape != image.shape[1:]:
            sizes = [f"{width} x {height}" for height, width in (numbers.shape, image.shape[1:])]
            raise InputError(f"{path} has {sizes[0]} pixels, its photo {sizes[1]}: expected the same")
        shown = [number for number in torch.unique(numbers).tolist() if number != _UNLABELLED]
        if not shown:
            return Sample(text="Leave the picture as it is.", image=image, target=image)
        absent = [number for number in self._labels if number not in shown]
        options = absent if absent and rng.random() < EMPTY_SHARE else shown
        chosen = options[int(rng.integers(len(options)))]
        if chosen not in self._labels:
            raise InputError(f"{path} holds the class {chosen + 1}, which labels.txt does not name: take the set's own")
        return painting_sample(image, numbers == chosen, self._labels[chosen], rng)


def _read_labels(path: Path) -> dict[int, str]:
    """Names by the number the maps use."""
    labels: dict[int, str] = {}
    with laid_out(path, "lines like '1: person'"):
        for line in read_text(path).splitlines():
            number, _, name = line.partition(":")
            if line.strip() and int(number) > 0:
                labels[int(number) - 1] = name.strip()
        if not labels or not all(labels.values()):
            raise ValueError("no classes" if not labels else "a class without a name")
    return labels
