"""Pictures between files, numpy, PIL and the core; the only place that knows 0-255 and EXIF.

Inside the core a picture is float RGB in [0, 1], `batch 3 height width`, and a mask is `batch 1 height width`.
"""

import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from PIL import ImageOps
from torch import Tensor

from .errors import InputError
from .types import Image, Mask

_MASK_NOISE = 8 / 255
"""Level up to which a mask file counts as black."""


def load_image(path: str | os.PathLike[str]) -> Image:
    """Read a picture file, turned upright by its EXIF tag, transparency on white.

    Raises:
        InputError: if the file is missing or is no picture.
    """
    picture = _open(path)
    if _may_be_see_through(picture):
        rgba = picture.convert("RGBA")
        picture = PilImage.alpha_composite(PilImage.new("RGBA", rgba.size, "white"), rgba)
    return pil_to_image(picture.convert("RGB"))


def load_mask(path: str | os.PathLike[str]) -> Mask:
    """Read a mask file; white = may change. A picture with see-through parts counts by its opacity.

    Almost black counts as black, so that the noise of a JPEG opens nothing.

    Raises:
        InputError: if the file is missing or is no picture.
    """
    picture = _open(path)
    channel = picture.convert("L")
    if _may_be_see_through(picture):
        opacity = picture.convert("RGBA").getchannel("A")
        # Paint programs add an opacity channel to everything; only one that is used says where.
        channel = opacity if opacity.getextrema() != (255, 255) else channel
    values = torch.from_numpy(np.array(channel, dtype=np.float32) / 255)[None, None]
    return torch.where(values > _MASK_NOISE, values, 0.0)


def _open(path: str | os.PathLike[str]) -> PilImage.Image:
    place = Path(path)
    if place.is_dir():
        raise InputError(f"expected a picture file, got the folder {place}: pass its files, e.g. {place}/*.png")
    if not place.is_file():
        raise InputError(f"expected a picture file, found none at {place}")
    try:
        with PilImage.open(place) as opened:
            picture = ImageOps.exif_transpose(opened)
            # Pillow cuts 16-bit greys off at 255 instead of scaling them.
            if picture.mode.startswith("I"):
                return PilImage.fromarray((np.asarray(picture) / 257).clip(0, 255).round().astype(np.uint8))
            if picture.mode == "F":
                raise ValueError("float pixels, whose range is not known")
            return picture
    # Pillow's readers of single formats raise all of these for broken files.
    except (OSError, SyntaxError, ValueError, struct.error, PilImage.DecompressionBombError) as error:
        raise InputError(f"cannot read {place} as a picture ({error}): convert it to PNG or JPEG") from error


def _may_be_see_through(picture: PilImage.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def save_image(image: Image | Mask, path: str | os.PathLike[str]) -> Path:
    """Write the first picture (or mask) of a batch; the name's ending decides the format.

    Raises:
        InputError: if the file cannot be written.
    """
    place = Path(path)
    partial = place.with_name(f".{place.stem}.partial{place.suffix}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        image_to_pil(image).save(partial)
        partial.replace(place)
    except (OSError, ValueError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {place} ({error}): choose another output") from error
    return place


def pil_to_image(picture: PilImage.Image) -> Image:
    """One RGB picture as a batch of one."""
    return bytes_to_image(torch.from_numpy(np.array(picture.convert("RGB")))[None])


def image_to_pil(image: Image | Mask) -> PilImage.Image:
    """The first picture (or mask) of a batch."""
    values = image_to_bytes(image)[0].cpu().numpy()
    return PilImage.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def bytes_to_image(
    values: UInt8[Tensor, "batch height width channels"],
) -> Float[Tensor, "batch channels height width"]:
    """From 0..255 with channels last to [0, 1] with channels first."""
    return values.permute(0, 3, 1, 2).float() / 255


def image_to_bytes(image: Image | Mask) -> UInt8[Tensor, "batch height width channels"]:
    """From [0, 1] with channels first to 0..255 with channels last, rounded."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def resize_image(image: Image | Mask, height: int, width: int) -> Float[Tensor, "batch channels height2 width2"]:
    """Resize pictures or soft masks, anti-aliased when shrinking; the same size is returned untouched."""
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)


def fit_size(height: int, width: int, *, longest: int | None) -> tuple[int, int]:
    """Height and width scaled so that the longer side is `longest` pixels (None = unchanged)."""
    if longest is None:
        return height, width
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def pad_to_multiple(image: Image | Mask, multiple: int) -> Float[Tensor, "batch channels height2 width2"]:
    """Repeat the right and bottom edges until both sides are multiples."""
    height, width = image.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if right or bottom else image


def side_by_side(
    panels: Sequence[Float[Tensor, "_ _ height _"]], *, gap: int = 4
) -> Float[Tensor, "1 3 height total_width"]:
    """One picture with the panels (the first picture or mask of each) from left to right, white between them."""
    rows = [panel[:1].expand(1, 3, *panel.shape[-2:]).cpu() for panel in panels]
    white = torch.ones(1, 3, rows[0].shape[-2], gap)
    joined = [part for row in rows for part in (row, white)]
    return torch.cat(joined[:-1], -1)


def overlay_mask(image: Image, mask: Mask, *, color: tuple[float, float, float] = (1.0, 0.25, 0.1)) -> Image:
    """Pictures with the mask tinted in a colour."""
    tint = torch.tensor(color, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    return image * (1 - 0.55 * mask) + tint * 0.55 * mask
