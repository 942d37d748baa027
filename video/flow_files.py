"""Flow in files: the user's own, and that of a run.

    FOLDER/forward/*.flo or *.npy     one file for each pair of frames, in the natural order of their names
    FOLDER/backward/...               from the later frame of each pair to the earlier one
    FILE.npz                          `forward` and `backward`, "pair 2 height width"; if they are known also
                                      `forward_confident` and `backward_confident`, "pair height width"

All values are in pixels, to the right and down. A .npy file is "2 height width" or "height width 2"; .flo is
Middlebury's. Values that are not finite, or at least 1e9 as Middlebury marks them, are unknown: flow 0, not trusted.
Flow of another size than the frames', but of their shape, is scaled.
"""

import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..editors import InputError, write_atomic
from .flow import ClipFlow, FlowConfig, confident_pixels

_MAGIC = 202021.25
_UNKNOWN = 1e9
_ENDINGS = (".flo", ".npy")
_FLOWS = ("forward", "backward")


def write_flow(path: Path, flow: ClipFlow) -> None:
    """Write flow as one .npz file, which appears only when it is complete.

    Raises:
        InputError: if the disk refuses.
    """
    arrays = {name: value.cpu().numpy() for name, value in vars(flow).items() if isinstance(value, Tensor)}

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, allow_pickle=False, method=flow.method, **arrays)

    write_atomic(path, write, hint="make room, or choose another folder", error=InputError)


def read_flow(path: Path, *, frames: int, height: int, width: int, config: FlowConfig | None = None) -> ClipFlow:
    """Read flow from a folder or a .npz file.

    Args:
        path: see the module.
        frames: how many the clip has.
        height: of the working frames, in pixels.
        width: of the working frames, in pixels.
        config: how trust is decided where the file does not say.

    Raises:
        InputError: if files are missing or unreadable, there are too many or too few, or their size does not fit.
    """
    path, config = Path(path).expanduser(), config or FlowConfig()
    stored = _read_archive(path) if path.is_file() else _read_folder(path, pairs=frames - 1)
    fields = {name: _field(stored[name], f"{name} in {path}", frames - 1, height, width) for name in _FLOWS}
    (forward, forward_known), (backward, backward_known) = fields["forward"], fields["backward"]

    def trusted(name: str, flow: Tensor, back: Tensor, known: Tensor) -> Tensor:
        values = stored.get(name)
        if values is not None and np.shape(values) == known.shape:
            return torch.from_numpy(np.array(values, dtype=bool))
        return confident_pixels(flow, back, config) & known

    return ClipFlow(
        forward=forward,
        backward=backward,
        forward_confident=trusted("forward_confident", forward, backward, forward_known),
        backward_confident=trusted("backward_confident", backward, forward, backward_known),
        method=str(stored.get("method", "files")),
    )


def _read_archive(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path} as an .npz file of flow: {_first_line(error)}") from error
    missing = [name for name in _FLOWS if name not in stored]
    if missing:
        raise InputError(f"expected forward and backward in {path}, found {sorted(stored)}: store both")
    return stored


def _read_folder(folder: Path, *, pairs: int) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"expected a folder or .npz file of flow at {folder}, found none")
    stored: dict[str, Any] = {}
    for name in _FLOWS:
        place = folder / name
        files = sorted((f for f in place.glob("*") if f.suffix in _ENDINGS), key=_natural)
        if len(files) != pairs:
            found = f"got {len(files)}" if place.is_dir() else "there is no such folder"
            raise InputError(
                f"expected {pairs} flow files (.flo or .npy) in {place}, one for each pair of frames, {found}"
            )
        fields = [_read_pair(file) for file in files]
        odd = [file for file, field in zip(files, fields, strict=True) if field.shape != fields[0].shape]
        if odd:
            raise InputError(f"expected flow files of equal size in {place}, but {odd[0].name} differs from the first")
        stored[name] = np.stack(fields)
    return stored


def _read_pair(file: Path) -> np.ndarray:
    """One flow field, "2 height width"."""
    try:
        field = _read_flo(file) if file.suffix == ".flo" else np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {file} as flow: {_first_line(error)}") from error
    if field.ndim == 3 and field.shape[0] != 2 and field.shape[-1] == 2:
        field = np.moveaxis(field, -1, 0)
    if field.ndim != 3 or field.shape[0] != 2:
        raise InputError(f"expected flow of two channels in {file}, got the shape {field.shape}")
    return field


def _read_flo(file: Path) -> np.ndarray:
    data = file.read_bytes()
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != _MAGIC:
        raise ValueError("it does not begin as a Middlebury file does")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, 4))
    if len(data) != 12 + 8 * width * height:
        raise ValueError(f"it is cut off, or not of {width} x {height} pixels as it says")
    return np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2)


def _field(values: Any, where: str, pairs: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Flow at the size of the frames, and which of it is known."""
    if values.ndim != 4 or values.shape[1] != 2 or not np.issubdtype(values.dtype, np.number):
        raise InputError(f"expected {where} to be numbers of the shape (pairs, 2, height, width), got {values.shape}")
    if len(values) != pairs:
        raise InputError(f"expected {pairs} flow fields of {where}, one for each pair of frames, got {len(values)}")
    rows, columns = values.shape[-2:]
    if abs(rows * width - columns * height) > max(rows, columns, height, width):
        raise InputError(
            f"expected flow of the shape of the frames, {width}x{height}, for {where}, got {columns}x{rows}"
        )
    flow = torch.from_numpy(np.array(values, dtype=np.float32))
    known = (flow.abs() < _UNKNOWN).all(1)
    flow = torch.where(known[:, None], flow, 0.0)
    if (rows, columns) == (height, width):
        return flow, known
    scale = flow.new_tensor([width / columns, height / rows]).view(2, 1, 1)
    return _resize(flow, height, width) * scale, _resize(known[:, None].float(), height, width)[:, 0] > 0.999


def _resize(values: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(values, (height, width), mode="bilinear", antialias=True, align_corners=False)


def _natural(file: Path) -> list[tuple[int, str]]:
    """So that `frame_10` comes after `frame_9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", file.name)]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
