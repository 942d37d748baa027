"""Files of an edit session, written so that a kill at any moment leaves either the old file or the new one.

Pixels are kept as uint8 because a PNG is: what is written is exactly what trains.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as Picture
from torch import Tensor

from .. import editors
from ..editors import SessionError

STRIP_SIDE = 256
"""Longest side of one panel of a before | mask | after strip, in pixels."""


_HINT = (
    "free some space, then go on with --load-config RUN/config.yml, which keeps everything saved so far, or begin a "
    "new run in another --output-dir"
)


def one_line_on_failure(path: Path) -> AbstractContextManager[None]:
    """Turn a failure of the disk into one line that says what to do."""
    return editors.one_line_on_failure(path, hint=_HINT)


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that it is whole or not there."""
    editors.write_atomic(path, write, hint=_HINT)


def write_json(path: Path, content: object) -> None:
    """Write JSON, readable by people."""
    editors.write_json(path, content, hint=_HINT)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    editors.write_tensors(path, tensors, hint=_HINT)


def write_checkpoint(path: Path, state: Mapping[str, Any], *, partial: Path) -> None:
    """Write a checkpoint in one move.

    Args:
        path: its place.
        state: what torch can save.
        partial: where it lies until it is whole, on the same disk.

    Raises:
        SessionError: if the disk refuses.
    """
    with one_line_on_failure(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(dict(state), partial)
            partial.replace(path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise OSError(getattr(error, "errno", None), str(error)) from error


def write_image(path: Path, image: UInt8[Tensor, "height width 3"] | UInt8[Tensor, "height width"]) -> None:
    """Write a PNG, colour or grey."""
    picture = Picture.fromarray(image.contiguous().numpy())
    write_atomic(path, lambda file: picture.save(file, format="PNG", compress_level=3))


def read_image(path: Path) -> UInt8[Tensor, "height width 3"]:
    """Read a colour PNG."""
    return torch.from_numpy(_read(path, "RGB"))


def read_mask(path: Path) -> UInt8[Tensor, "height width"]:
    """Read a grey PNG."""
    return torch.from_numpy(_read(path, "L"))


def _read(path: Path, mode: str) -> np.ndarray:
    try:
        with Picture.open(path) as picture:
            return np.array(picture.convert(mode))
    except OSError as error:
        raise SessionError(f"cannot read {path} ({error}): remove the session folder to begin anew") from error


def to_bytes(values: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """[0, 1] to 0-255."""
    return values.detach().clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def from_bytes(values: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0-255 to [0, 1], the way nerfstudio reads its photos."""
    return values.to(torch.float32) / 255.0


def draw_strip(
    before: UInt8[Tensor, "height width 3"],
    mask: UInt8[Tensor, "height width"],
    after: UInt8[Tensor, "height width 3"],
) -> UInt8[Tensor, "strip_height strip_width 3"]:
    """before | mask | after, side by side, small enough to keep one for each edit."""
    height, width = mask.shape
    share = min(1.0, STRIP_SIDE / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    pictures = [Picture.fromarray(p.contiguous().numpy()).convert("RGB") for p in (before, mask, after)]
    gap = np.full((size[1], 2, 3), 255, dtype=np.uint8)
    panels = [np.asarray(picture.resize(size, Picture.Resampling.BILINEAR)) for picture in pictures]
    return torch.from_numpy(np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1))


def probe_folder(folder: Path, size: int = 1 << 20) -> None:
    """Refuse a folder that cannot be written to before hours are spent on what cannot be kept.

    Raises:
        SessionError: if a file of `size` bytes cannot be written.
    """
    probe = folder / "write_probe"
    write_atomic(probe, lambda file: file.write(bytes(size)))
    probe.unlink()
