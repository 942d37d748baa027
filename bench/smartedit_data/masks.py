"""Masks as COCO stores them: polygons, and run lengths by columns, counted or packed as text."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

Polygon: TypeAlias = Sequence[float | int] | Float32[np.ndarray, " _"]
"""x, y, x, y, ... in pixels."""
Runs: TypeAlias = Sequence[int] | Int64[np.ndarray, " _"] | str
"""Lengths down the columns, or COCO's text of them."""
Segmentation: TypeAlias = Sequence[Polygon] | Mapping[str, Any]
"""Polygons, or runs as `counts` with `size`."""

_FINER = 5
"""Polygons are filled on a grid this much finer; odd, so that the middle of a pixel is a pixel of that grid."""
_SHIFT = 4
"""Bits behind the point in the corners that OpenCV takes."""


def polygons_to_mask(polygons: Sequence[Polygon], height: int, width: int) -> Bool[Tensor, "height width"]:
    """Pixels inside any of some polygons.

    Args:
        polygons: each x, y, x, y, ... in pixels, where pixel i reaches from i to i + 1.
        height: of the picture.
        width: of the picture.

    Raises:
        ValueError: if a polygon has under three corners or half a corner.
    """
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon must have at least 3 corners of 2 numbers, got {len(polygon)} numbers")
        corners = np.asarray(polygon, dtype=float).reshape(-1, 2)
        # OpenCV counts from the middle of the first pixel, and fills the border too, hence the finer grid. One by one:
        # together, overlaps would be holes.
        fixed = np.round((corners * _FINER - 0.5) * (1 << _SHIFT)).astype(np.int32)
        filled = np.zeros((height * _FINER, width * _FINER), np.uint8)
        cv2.fillPoly(filled, [fixed], (1,), shift=_SHIFT)
        mask |= filled[_FINER // 2 :: _FINER, _FINER // 2 :: _FINER] > 0
    return torch.from_numpy(mask)


def runs_to_mask(counts: Runs, height: int, width: int) -> Bool[Tensor, "height width"]:
    """Pixels told by run lengths down the columns, outside first.

    Args:
        counts: the lengths, or COCO's text of them.
        height: of the picture.
        width: of the picture.

    Raises:
        ValueError: if the runs do not fill the picture.
    """
    lengths = np.asarray(_unpack(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if lengths.sum() != height * width or (lengths < 0).any():
        raise ValueError(f"runs must fill {height * width} pixels, got {lengths.sum()}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return torch.from_numpy(flat.reshape(width, height).T.copy())


def segmentation_to_mask(segmentation: Segmentation, height: int, width: int) -> Bool[Tensor, "height width"]:
    """A segmentation of COCO's annotations, in any of its forms.

    Args:
        segmentation: polygons, or `counts` with `size`.
        height: of the picture.
        width: of the picture.

    Raises:
        ValueError: if it is damaged or of another size.
    """
    if not isinstance(segmentation, Mapping):
        return polygons_to_mask(segmentation, height, width)
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"size of the runs must be {[height, width]}, got {segmentation['size']}")
    return runs_to_mask(segmentation["counts"], height, width)


def pack_segmentation(segmentation: Segmentation) -> Segmentation:
    """The same in a tenth of the memory; corners are rounded to some hundred-thousandths of a pixel.

    Args:
        segmentation: polygons, or `counts` with `size`, as JSON gives them.

    Raises:
        ValueError: if it holds anything but numbers.
    """
    if not isinstance(segmentation, Mapping):
        return tuple(np.asarray(polygon, dtype=np.float32) for polygon in segmentation)
    counts = segmentation["counts"]
    if not isinstance(counts, str):
        counts = np.asarray(counts, dtype=np.int64)
    return {"size": tuple(segmentation["size"]), "counts": counts}


def _unpack(text: str) -> list[int]:
    """Numbers of 5 bits a letter, lowest first; from the fourth on, the difference to the one before the last."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        # The top bit of the last letter is the sign.
        value -= (1 << shift) if bits & 16 else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
