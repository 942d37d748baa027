"""How scenes, edits and pictures of the blocks world are written to files, and read back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image as PILImage
from torch import Tensor

from ... import editors
from ...editors import InputError
from ...video.timeline import Timeline
from ...video.writing import write_clip
from .instructions import BlockEdit, Named
from .scene import Block, Mirror, OrbitCamera, Scene


def scene_to_record(scene: Scene) -> dict[str, Any]:
    """A scene as plain values that JSON can hold."""
    return asdict(scene)


def record_to_scene(record: Mapping[str, Any]) -> Scene:
    """The scene of `scene_to_record`."""
    shown = record["reflected"]
    return Scene(
        blocks=tuple(Block(**block) for block in record["blocks"]),
        light_azimuth=record["light_azimuth"],
        ground=record["ground"],
        mirror=None if record["mirror"] is None else Mirror(**record["mirror"]),
        reflected=None if shown is None else tuple(Block(**block) for block in shown),
    )


def record_to_edit(record: Mapping[str, Any]) -> BlockEdit:
    """The edit whose `dataclasses.asdict` the record is."""
    named = Named(**{**record["named"], "targets": tuple(record["named"]["targets"])})
    new = tuple(Block(**block) for block in record["new"])
    return BlockEdit(**{**record, "named": named, "new": new})


def record_to_camera(record: Mapping[str, Any]) -> OrbitCamera:
    """The camera whose `dataclasses.asdict` the record is."""
    return OrbitCamera(**{**record, "target": tuple(record["target"])})


def start_folder(folder: Path) -> None:
    """Make a folder to write into.

    Raises:
        InputError: if it already holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"expected a new or empty folder, but {folder} holds something: remove it or name another one")
    folder.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record; the file appears only when it is complete."""
    editors.write_json(path, record, hint="free some space or name another folder", indent=2)


def read_json(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        InputError: if there is no such file or it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"expected the truth of a blocks scene in {path}, found no such file") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not readable JSON ({error}): write the folder anew") from error


def write_pictures(folder: Path, names: Iterable[str], images: Float[Tensor, "image 3 height width"]) -> None:
    """Write `folder/NAME.png`, 8 bits a channel."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    for name, image in zip(names, pixels, strict=True):
        PILImage.fromarray(image).save(folder / f"{name}.png")


def read_pictures(folder: Path, names: Iterable[str]) -> Float[Tensor, "image 3 height width"]:
    """The pictures of `write_pictures`, in [0, 1]."""
    pixels = [_read_png(folder / f"{name}.png") for name in names]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def write_masks(folder: Path, names: Iterable[str], masks: Bool[Tensor, "image height width"]) -> None:
    """Write `folder/NAME.png`, white = true."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names, masks.cpu().numpy(), strict=True):
        PILImage.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}.png")


def read_masks(folder: Path, names: Iterable[str]) -> Bool[Tensor, "image height width"]:
    """The masks of `write_masks`."""
    return torch.from_numpy(np.stack([_read_png(folder / f"{name}.png") > 127 for name in names]))


def write_points(path: Path, points: Float[np.ndarray, "point 3"], colors: Float[np.ndarray, "point 3"]) -> None:
    """Write coloured points as a text PLY, as nerfstudio's own data preparation does."""
    header = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uint8 {channel}" for channel in ("red", "green", "blue")]
    rows = [
        f"{x:.5f} {y:.5f} {z:.5f} {r:d} {g:d} {b:d}"
        for (x, y, z), (r, g, b) in zip(points, (colors * 255).round().astype(int), strict=True)
    ]
    path.write_text("\n".join([*header, "end_header", *rows]) + "\n", encoding="ascii")


def write_video(path: Path, images: Float[Tensor, "frame 3 height width"], *, fps: int = 12) -> None:
    """Write an H.264 mp4 that ordinary players show.

    Raises:
        InputError: if a side is odd, which this pixel format cannot hold, or the file cannot be written.
    """
    height, width = images.shape[-2:]
    if height % 2 or width % 2:
        raise InputError(f"a video needs even sides, got {width}x{height} pixels: render it one pixel larger")
    pixels = (images * 255).round().clamp(0, 255).to(torch.uint8)
    write_clip(path, pixels, Timeline.steady(len(pixels), fps))


def frame_names(count: int) -> list[str]:
    """Names that sort in the order of the frames."""
    return [f"frame_{number:05d}" for number in range(count)]


def _read_png(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"expected a picture at {path}, found none: the folder is incomplete, write it anew")
    with PILImage.open(path) as image:
        return np.array(image)
