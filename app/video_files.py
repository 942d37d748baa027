"""Clips on the command line: where runs and results lie, and masks of frames, checked before anything is loaded.

A clip NAME.* gives NAME_edited.mp4 in the output folder, and the run folder NAME_run beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..editors import InputError, load_mask
from ..video.frame_mask import FrameMask
from ..video.options import VideoConfig
from ..video.stored import StoredClip
from .pictures import check_output

Format = Literal["mp4", "gif", "png"]
"""`png`: a folder of pictures."""
_ENDINGS = {".mp4", ".gif"}
_PROPORTIONS = 0.02
"""How far the sides of a mask may be from those of a frame, as a share: sizes are rounded to pixels."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where everything about a clip lies."""

    run: Path
    """Folder of the run."""
    result: Path
    """The edited clip."""


def find_clip(clip: Path | None, command: str) -> Path:
    """The clip that was given.

    Args:
        clip: as it was given.
        command: how to call the command, for those who did not.

    Raises:
        InputError: if there is none.
    """
    if clip is None:
        raise InputError(f"expected a clip, got none: {command}")
    if not clip.expanduser().exists():
        raise InputError(f"expected a clip at {clip}, found no such file or folder")
    return clip.expanduser()


def name_of_clip(clip: Path) -> str:
    """What results of a clip are named after."""
    clip = clip.resolve()
    return clip.name if clip.is_dir() else clip.stem


def place(clip: Path, *, output: Path, run: Path | None, kind: Format) -> Places:
    """Decide where the run and the result of a clip go, and make sure that nothing is lost there.

    Args:
        clip: what is edited.
        output: the result, if the name ends in .mp4 or .gif; else a folder for it.
        run: folder of the run; None = NAME_run beside the result.
        kind: of a result in a folder.

    Raises:
        InputError: if one of them cannot be written, or would replace the clip.
    """
    name = name_of_clip(clip)
    result = place_result(name, output, kind)
    if result.resolve() == clip.resolve():
        raise InputError(f"the result {result} would replace the clip: choose another --output")
    folder = run or result.parent / f"{name}_run"
    check_output(folder, flag="--output" if run is None else "--run")
    return Places(run=folder, result=result)


def place_result(name: str, output: Path, kind: Format) -> Path:
    """The edited clip's file or folder.

    Args:
        name: of the clip.
        output: as it was given.
        kind: of a result in a folder.

    Raises:
        InputError: if it cannot be written.
    """
    ending = output.suffix.lower()
    is_file = ending in _ENDINGS and not output.is_dir()
    # Names such as `clip.webm` would quietly become folders.
    if ending and not is_file and not output.is_dir():
        raise InputError(
            f"expected --output to end in .mp4 or .gif, or to be a folder, got {output.name}: choose another name"
        )
    check_output(output.parent if is_file else output)
    if is_file:
        return output
    return output / (f"{name}_edited" if kind == "png" else f"{name}_edited.{kind}")


def read_frame_mask(mask: Path | None, frame: int | None) -> FrameMask | None:
    """A mask that was painted on a frame.

    Args:
        mask: its file.
        frame: number of the frame, counted from 0; None = 0.

    Raises:
        InputError: if it cannot be read or is black everywhere, or a frame is named without it.
    """
    if mask is None:
        if frame is not None:
            raise InputError("expected --mask beside --mask-frame, got none: name the picture that was painted")
        return None
    if frame is not None and frame < 0:
        raise InputError(f"--mask-frame must be at least 0, got {frame}")
    painted = load_mask(mask)
    if not bool((painted > 0).any()):
        raise InputError(f"the mask {mask} is black everywhere, so nothing may change: paint the region white")
    return FrameMask(frame=frame or 0, mask=painted)


def check_frame_mask(mask: FrameMask, clip: StoredClip) -> None:
    """Make sure that a mask fits a clip.

    Args:
        mask: painted on one frame.
        clip: the frames that were taken.

    Raises:
        InputError: if it is of other proportions, or there is no such frame.
    """
    shown = clip.info or clip
    rows, columns = mask.mask.shape[-2:]
    if abs(rows / columns * shown.width / shown.height - 1) > _PROPORTIONS:
        raise InputError(
            f"expected --mask of the proportions of frames, {shown.width}x{shown.height} pixels, got {columns}x{rows}: "
            "paint it on a frame"
        )
    if mask.frame >= len(clip):
        raise InputError(f"--mask-frame must be from 0 to {len(clip) - 1}, got {mask.frame}: name another frame")


def check_layers(chosen: Sequence[int], config: VideoConfig) -> None:
    """Make sure that there are the layers that may change.

    Args:
        chosen: their numbers, 0 = the background; none = all.
        config: of the clip.

    Raises:
        InputError: if there is no such layer.
    """
    last = config.layers.count
    if not set(chosen) <= set(range(last + 1)):
        raise InputError(f"expected --only-layer from 0 to {last}, got {sorted(chosen)}: name other layers")


def check_masks(masks: Sequence[Path]) -> None:
    """Make sure that the masks of layers are there; whether they fit is known once the clip is read.

    Args:
        masks: their folders and videos.

    Raises:
        InputError: if one is missing.
    """
    for path in masks:
        if not path.expanduser().exists():
            raise InputError(f"expected masks at {path}, found no such folder or video: correct --layers.masks")


def find_run(folder: Path | None, command: str) -> Path:
    """The run folder that was given.

    Args:
        folder: as it was given.
        command: how to call the command, for those who did not.

    Raises:
        InputError: if there is no run.
    """
    if folder is None:
        raise InputError(f"expected a run folder, got none: {command}")
    if not (folder / "run.json").is_file():
        raise InputError(f"expected a run folder at {folder}, found none: make one with `maskedit video fit CLIP`")
    return folder
