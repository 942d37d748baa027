"""Pictures of the sets, and pairs of them on one frame."""

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ...editors import InputError, bytes_to_image, load_image, resize_image

MAX_STRETCH = 0.02
"""By how much the shapes of two pictures may differ that are one frame: models round sides to multiples of 8."""


def read_picture(path: Path) -> Float[Tensor, "3 height width"]:
    """A picture, RGB in [0, 1].

    Raises:
        InputError: if it is missing or broken.
    """
    return load_image(path)[0]


def decode_picture(content: bytes, where: str) -> Float[Tensor, "3 height width"]:
    """A picture out of the bytes of its file.

    Args:
        content: of a JPEG or PNG file.
        where: they come from, for the message.

    Raises:
        InputError: if they are no picture.
    """
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if pixels is None:
        raise InputError(f"cannot read {where} as a picture: download the set again")
    return bytes_to_image(torch.from_numpy(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))[None])[0]


def read_levels(path: Path) -> UInt8[Tensor, "height width"]:
    """The values of a grey picture as they are stored, such as class numbers.

    Raises:
        InputError: if it is missing, broken or in colour.
    """
    if not path.is_file():
        raise InputError(f"expected a picture of class numbers, found none at {path}")
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
    if values is None:
        raise InputError(f"cannot read {path} as a picture: download it again")
    if values.ndim != 2 or values.dtype != np.uint8:
        raise InputError(f"expected one channel of 8 bits in {path}, got {values.dtype} of shape {values.shape}")
    return torch.from_numpy(values)


def same_frame(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two heights and widths are one frame at two scales."""
    (height, width), (height2, width2) = one[-2:], other[-2:]
    return abs(height * width2 / (width * height2) - 1) <= MAX_STRETCH


def on_frame_of(
    image: Float[Tensor, "3 height width"], target: Float[Tensor, "3 height2 width2"], *, before: str, after: str
) -> Float[Tensor, "3 height width"]:
    """An edited picture at the size of the one it was made from; MagicBrush's, for one, come larger.

    Args:
        image: before the edit.
        target: after it.
        before: name of the first, for the message.
        after: name of the second.

    Raises:
        InputError: if they show different frames.
    """
    if not same_frame(image.shape, target.shape):
        sizes = [f"{width} x {height}" for height, width in (image.shape[1:], target.shape[1:])]
        raise InputError(
            f"{after} has {sizes[1]} pixels, {before} {sizes[0]}: expected the same frame before and after"
        )
    return resize_image(target[None], *image.shape[1:])[0]


def read_pair(before: Path, after: Path) -> tuple[Float[Tensor, "3 height width"], Float[Tensor, "3 height width"]]:
    """A picture and its edit, both at the size of the first.

    Raises:
        InputError: if one is missing or broken, or they show different frames.
    """
    image = read_picture(before)
    return image, on_frame_of(image, read_picture(after), before=before.name, after=str(after))
