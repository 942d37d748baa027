"""Multi-view datasets of the blocks world with their truly edited twins.

`write_multiview` makes a folder that nerfstudio loads as it is:

    FOLDER/transforms.json, images/, sparse_pc.ply    the scene
    FOLDER/edited/...                                 the same three for the truly edited scene, same cameras
    FOLDER/truth/                                     what nerfstudio never reads: truth.json, masks/instruction_0/,
                                                      changed/, depth/ (npz with `before` and `after`)

Everything in truth/ belongs to a picture, by file name, and to the world of the scene. nerfstudio turns, centres and
scales the cameras it loads; that changes neither the pictures nor their names, so masks and edited pictures fit as
they are, and a depth from nerfstudio is divided by its `dataparser_scale` before it is compared. Both folders hold the
same cameras, so nerfstudio moves both scenes in the same way.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...editors import InputError
from .camera import camera_to_world, focal_length, orbit_cameras
from .instructions import BlockEdit, apply_edits
from .pairs import CHANGED_THRESHOLD, edit_masks
from .render import Rendering, render
from .scene import OrbitCamera, Scene
from .storage import (
    frame_names,
    read_json,
    read_masks,
    read_pictures,
    record_to_camera,
    record_to_edit,
    record_to_scene,
    scene_to_record,
    start_folder,
    write_json,
    write_masks,
    write_pictures,
    write_points,
)
from .trace import MIRROR, SKY

_POINTS_WITHIN = 4.0
"""Surface points farther from the middle of the scene than this are not written, world units."""


@dataclass(frozen=True, kw_only=True)
class MultiviewTruth:
    """Pictures and truth of a multi-view dataset, views in the order of their file names."""

    scene: Scene
    edited_scene: Scene
    edits: tuple[BlockEdit, ...]
    cameras: tuple[OrbitCamera, ...]
    names: tuple[str, ...]
    """Names of the pictures without folder and ending."""
    held_out: tuple[int, ...]
    """Views that are not for training."""
    source: Float[Tensor, "view 3 height width"]
    target: Float[Tensor, "view 3 height width"]
    """The truly edited twins."""
    masks: Bool[Tensor, "edit view height width"]
    """Silhouettes of each edit's blocks before and after."""
    changed: Bool[Tensor, "view 1 height width"]
    """Pixels that truly change, shadows and reflections included."""
    depth: Float[Tensor, "view height width"]
    """Along the optical axis in units of the scene, infinite on the sky."""
    edited_depth: Float[Tensor, "view height width"]

    @property
    def training(self) -> tuple[int, ...]:
        """Views for training."""
        return tuple(view for view in range(len(self.names)) if view not in self.held_out)

    @property
    def instruction(self) -> str:
        """All instructions in one sentence."""
        return ", ".join(edit.text for edit in self.edits)

    @property
    def mask(self) -> Bool[Tensor, "view 1 height width"]:
        """Union of the masks."""
        return self.masks.any(0)[:, None]

    @property
    def poses(self) -> Float[Tensor, "view 4 4"]:
        """Camera-to-world matrices, as in transforms.json."""
        return torch.stack([camera_to_world(camera) for camera in self.cameras])


def write_multiview(
    folder: Path,
    scene: Scene,
    edits: Sequence[BlockEdit],
    *,
    views: int = 24,
    held_out: int = 4,
    size: int = 64,
    samples: int = 3,
    cameras: Sequence[OrbitCamera] | None = None,
    points: int = 4000,
    device: torch.device | str = "cpu",
) -> MultiviewTruth:
    """Write a dataset and its twin; the same arguments give the same files.

    Args:
        folder: a new or empty folder.
        scene: the scene before the edits.
        edits: what the instructions do.
        views: number of cameras on the orbit.
        held_out: how many of them, evenly spread, are for validation and test.
        size: side of the square pictures in pixels.
        samples: anti-aliasing, rays per pixel along each axis.
        cameras: other cameras than `orbit_cameras(views)`.
        points: surface points in each sparse_pc.ply.
        device: where to render.

    Raises:
        InputError: if the folder holds something, too few views are left for training, or an instruction does not
            hold from every side.
    """
    cameras = orbit_cameras(views, mirror=scene.mirror) if cameras is None else tuple(cameras)
    apart = _spread(len(cameras), held_out)
    for edit in edits:
        if edit.named.family == "left_right":
            raise InputError(f"{edit.text!r} holds from some sides only: draw edits with references=FIXED_REFERENCES")
    edited, where = apply_edits(scene, edits)
    before = render([scene] * len(cameras), cameras, height=size, samples=samples, device=device)
    after = render([edited] * len(cameras), cameras, height=size, samples=samples, device=device)
    folder = Path(folder)
    start_folder(folder)
    names = frame_names(len(cameras))
    for home, rendering in ((folder, before), (folder / "edited", after)):
        write_pictures(home / "images", names, rendering.rgb)
        write_points(home / "sparse_pc.ply", *_surface_points(rendering, apart, points))
        write_json(home / "transforms.json", _transforms(cameras, names, apart, size))
    truth = folder / "truth"
    for number, mask in enumerate(edit_masks(edits, where, before, after)):
        write_masks(truth / "masks" / f"instruction_{number}", names, mask)
    write_masks(truth / "changed", names, ((before.rgb - after.rgb).abs() > CHANGED_THRESHOLD).any(1))
    _write_depths(truth / "depth", names, before, after)
    record = {
        "caption": scene.caption,
        "edited_caption": edited.caption,
        "instructions": [edit.text for edit in edits],
        "keywords": [edit.keyword for edit in edits],
        "names": names,
        "held_out": apart,
        "scene": scene_to_record(scene),
        "edited_scene": scene_to_record(edited),
        "edits": [asdict(edit) for edit in edits],
        "cameras": [asdict(camera) for camera in cameras],
    }
    write_json(truth / "truth.json", record)
    return read_multiview(folder)


def read_multiview(folder: Path) -> MultiviewTruth:
    """The truth of a folder that `write_multiview` made.

    Raises:
        InputError: if the folder is not one, or incomplete.
    """
    folder = Path(folder)
    truth = folder / "truth"
    record = read_json(truth / "truth.json")
    names = tuple(record["names"])
    source = read_pictures(folder / "images", names)
    folders = [truth / "masks" / f"instruction_{number}" for number in range(len(record["edits"]))]
    masks = [read_masks(home, names) for home in folders]
    depth, edited_depth = _read_depths(truth / "depth", names)
    return MultiviewTruth(
        scene=record_to_scene(record["scene"]),
        edited_scene=record_to_scene(record["edited_scene"]),
        edits=tuple(record_to_edit(edit) for edit in record["edits"]),
        cameras=tuple(record_to_camera(camera) for camera in record["cameras"]),
        names=names,
        held_out=tuple(record["held_out"]),
        source=source,
        target=read_pictures(folder / "edited" / "images", names),
        masks=torch.stack(masks) if masks else source.new_zeros(0, *depth.shape, dtype=torch.bool),
        changed=read_masks(truth / "changed", names)[:, None],
        depth=depth,
        edited_depth=edited_depth,
    )


def _spread(views: int, held_out: int) -> list[int]:
    if not 1 <= held_out <= views - 2:
        raise InputError(f"held_out must be in [1, views - 2] = [1, {views - 2}], got {held_out} of {views} views")
    return [int((k + 0.5) * views / held_out) for k in range(held_out)]


def _transforms(
    cameras: Sequence[OrbitCamera], names: Sequence[str], held_out: Sequence[int], size: int
) -> dict[str, Any]:
    files = [f"images/{name}.png" for name in names]
    focals = [focal_length(camera, size) for camera in cameras]
    apart = [files[view] for view in held_out]
    # One focal length for all is the common form; nerfstudio reads a camera's own only where there is no common one.
    common = {"fl_x": focals[0], "fl_y": focals[0]} if len(set(focals)) == 1 else {}
    return {
        "camera_model": "OPENCV",
        "w": size,
        "h": size,
        **common,
        "cx": 0.5 * size,
        "cy": 0.5 * size,
        **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
        "ply_file_path": "sparse_pc.ply",
        "train_filenames": [file for file in files if file not in apart],
        "val_filenames": apart,
        "test_filenames": apart,
        "frames": [
            {"file_path": file, "fl_x": f, "fl_y": f, "transform_matrix": camera_to_world(camera).tolist()}
            for file, f, camera in zip(files, focals, cameras, strict=True)
        ],
    }


def _surface_points(rendering: Rendering, held_out: Sequence[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points that the training views see, at most `count`, with their colours."""
    training = [view for view in range(len(rendering.rgb)) if view not in held_out]
    near = rendering.points.norm(dim=-1) < _POINTS_WITHIN
    usable = near & (rendering.index != SKY) & (rendering.index != MIRROR)
    points = rendering.points[training][usable[training]].cpu().numpy()
    colors = rendering.rgb.permute(0, 2, 3, 1)[training][usable[training]].cpu().numpy()
    chosen = np.random.default_rng(0).permutation(len(points))[:count]
    return points[chosen], colors[chosen]


def _write_depths(folder: Path, names: Sequence[str], before: Rendering, after: Rendering) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, one, two in zip(names, before.depth.cpu().numpy(), after.depth.cpu().numpy(), strict=True):
        np.savez_compressed(folder / f"{name}.npz", before=one, after=two)


def _read_depths(folder: Path, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    rows: list[np.ndarray] = []
    for name in names:
        if not (folder / f"{name}.npz").is_file():
            raise InputError(f"expected depths at {folder / name}.npz, found none: the folder is incomplete")
        with np.load(folder / f"{name}.npz") as file:
            rows.append(np.stack([file["before"], file["after"]]))
    both = torch.from_numpy(np.stack(rows))
    return both[:, 0], both[:, 1]
