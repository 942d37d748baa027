"""Layer masks in files: a folder with a picture for each frame, or a video.

At rest a mask is 8 bits a pixel, 255 = inside. What is almost black is 0 and what is almost white is 255, so that the
noise of a codec opens nothing: values up to 0.05 count as outside, as in CoDeF (arXiv 2308.07926).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ..editors import InputError, load_mask, save_image
from .frames import iterate_frames, probe_clip
from .picture_folders import list_pictures
from .timeline import Timeline

_BLACK, _WHITE = 0.05, 0.95
"""Values up to which, and from which on, a mask is 0 or 1."""


def mask_to_bytes(mask: Float[Tensor, "*batch height width"]) -> UInt8[Tensor, "*batch height width"]:
    """Masks in [0, 1] as they are kept; doing it twice changes nothing more."""
    values = torch.where(mask > _BLACK, mask, 0.0)
    return (torch.where(values < _WHITE, values, 1.0) * 255).round().to(torch.uint8)


def read_masks(
    path: Path, *, frames: int, height: int, width: int, timeline: Timeline | None = None
) -> UInt8[Tensor, "frame 1 height width"]:
    """The masks of one layer.

    Args:
        path: a folder of pictures in the natural order of their names, or a video.
        frames: how many the clip has.
        height: of the working frames, in pixels; masks of another size, but of this shape, are averaged over areas.
        width: of the working frames, in pixels.
        timeline: which piece of its source the clip is: there may also be a mask for each frame of the source.

    Raises:
        InputError: if masks are missing or unreadable, too many or too few, of another shape, or all empty.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"expected masks at {path}, found no such folder or video")
    pictures = list_pictures(path) if path.is_dir() else None
    count = probe_clip(path).frames if pictures is None else len(pictures)
    numbers = _numbers(count, frames, timeline, path)
    masks = torch.zeros(frames, 1, height, width, dtype=torch.uint8)
    if pictures is not None:
        found: Iterator[tuple[str, Tensor]] = ((pictures[n].name, load_mask(pictures[n])) for n in numbers)
    else:
        found = ((f"frame {n}", _grey(frame.pixels)) for n, frame in enumerate(iterate_frames(path)) if n in numbers)
    for row, (name, mask) in enumerate(found):
        masks[row] = mask_to_bytes(_fit(mask, height, width, f"{path}, {name}")[0])
    if not masks.any():
        raise InputError(f"expected masks with something white in {path}, they are all black: leave the layer out")
    return masks


def write_masks(folder: Path, masks: UInt8[Tensor, "frame 1 height width"]) -> None:
    """Write a picture for each frame; `read_masks` gives the same masks back. What was written before is replaced.

    Raises:
        InputError: if the disk refuses.
    """
    for old in folder.glob("frame_*.png"):
        old.unlink()
    for number, mask in enumerate(masks):
        save_image(mask[None].float() / 255, folder / f"frame_{number:05d}.png")


def _numbers(count: int, frames: int, timeline: Timeline | None, path: Path) -> range:
    """Which of the masks are those of the frames."""
    if count == frames:
        return range(frames)
    source = None if timeline is None else timeline.source
    if timeline is not None and source is not None and count == source.frames:
        return timeline.numbers
    whole = "" if source is None or source.frames == frames else f" (or {source.frames}, one for each of the source)"
    raise InputError(f"expected {frames} masks in {path}, one for each frame{whole}, got {count}")


def _fit(mask: Tensor, height: int, width: int, where: str) -> Tensor:
    rows, columns = mask.shape[-2:]
    if (rows, columns) == (height, width):
        return mask
    if abs(rows * width - columns * height) > max(rows, columns, height, width):
        raise InputError(
            f"expected masks of the shape of the frames, {width}x{height}, got {columns}x{rows} in {where}"
        )
    if rows >= height and columns >= width:
        return F.interpolate(mask, (height, width), mode="area")
    return F.interpolate(mask, (height, width), mode="bilinear", align_corners=False)


def _grey(pixels: UInt8[np.ndarray, "height width 3"]) -> Tensor:
    return torch.from_numpy(pixels).float().mean(-1)[None, None] / 255
