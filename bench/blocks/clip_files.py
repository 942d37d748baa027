"""Clips of the blocks world on disk.

    FOLDER/frames/frame_00000.png ...   clip.mp4      the clip
    FOLDER/edited/frame_00000.png ...   edited.mp4    the truly edited twin
    FOLDER/truth/                                     truth.json, masks/instruction_0/, changed/, source.npz, edited.npz

The npz files hold `depth`, `forward`, `backward`, `forward_occluded` and `backward_occluded` as in `Footage`.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ...editors import InputError
from .clip import BlockMotion, Clip, ClipSpec, Footage
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
    write_video,
)

_ARRAYS = ("depth", "forward", "backward", "forward_occluded", "backward_occluded")


def write_clip(folder: Path, clip: Clip, *, fps: int = 12) -> None:
    """Write a clip and its twin as pictures and as mp4, with their truth.

    Args:
        folder: a new or empty folder.
        clip: what to write.
        fps: frames a second of the mp4 files.

    Raises:
        InputError: if the folder holds something, or the sides of the pictures are odd.
    """
    folder = Path(folder)
    start_folder(folder)
    names = frame_names(len(clip.source.frames))
    truth = folder / "truth"
    truth.mkdir()
    for footage, pictures, video, arrays in (
        (clip.source, "frames", "clip.mp4", "source.npz"),
        (clip.edited, "edited", "edited.mp4", "edited.npz"),
    ):
        write_video(folder / video, footage.frames, fps=fps)
        write_pictures(folder / pictures, names, footage.frames)
        np.savez_compressed(truth / arrays, **{name: getattr(footage, name).cpu().numpy() for name in _ARRAYS})
    for number, mask in enumerate(clip.masks):
        write_masks(truth / "masks" / f"instruction_{number}", names, mask)
    write_masks(truth / "changed", names, clip.changed[:, 0])
    spec = clip.spec
    record = {
        "caption": spec.scene.caption,
        "edited_caption": spec.edited.caption,
        "instructions": [edit.text for edit in spec.edits],
        "keywords": [edit.keyword for edit in spec.edits],
        "frames": len(names),
        "fps": fps,
        "scene": scene_to_record(spec.scene),
        "edits": [asdict(edit) for edit in spec.edits],
        "cameras": [asdict(camera) for camera in spec.cameras],
        "motions": [asdict(motion) for motion in spec.motions],
    }
    write_json(truth / "truth.json", record)


def read_clip(folder: Path) -> Clip:
    """The clip that `write_clip` wrote; its pictures are rounded to 8 bits.

    Raises:
        InputError: if the folder is not one, or incomplete.
    """
    folder = Path(folder)
    truth = folder / "truth"
    record = read_json(truth / "truth.json")
    names = frame_names(record["frames"])
    spec = ClipSpec(
        scene=record_to_scene(record["scene"]),
        edits=tuple(record_to_edit(edit) for edit in record["edits"]),
        cameras=tuple(record_to_camera(camera) for camera in record["cameras"]),
        motions=tuple(BlockMotion(**{**m, "shift": tuple(m["shift"])}) for m in record["motions"]),
    )
    source = _read_footage(folder / "frames", truth / "source.npz", names)
    masks = [read_masks(truth / "masks" / f"instruction_{number}", names) for number in range(len(spec.edits))]
    return Clip(
        spec=spec,
        source=source,
        edited=_read_footage(folder / "edited", truth / "edited.npz", names),
        masks=torch.stack(masks) if masks else torch.zeros(0, *source.depth.shape, dtype=torch.bool),
        changed=read_masks(truth / "changed", names)[:, None],
    )


def _read_footage(pictures: Path, arrays: Path, names: list[str]) -> Footage:
    if not arrays.is_file():
        raise InputError(f"expected flow and depth in {arrays}, found no such file: the folder is incomplete")
    with np.load(arrays) as file:
        values = {name: torch.from_numpy(file[name]) for name in _ARRAYS}
    return Footage(frames=read_pictures(pictures, names), **values)
