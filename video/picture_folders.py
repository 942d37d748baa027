"""A folder of pictures as a clip: in natural order, turned by their EXIF tags, transparency on white.

Frame 2 comes before frame 10. Names that begin with a dot are no frames. A file `times.json` of `ClipWriter` says when
they are shown; without one, a rate does.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..editors import InputError, image_to_bytes, load_image
from .timeline import ClipInfo, Timeline

TIMES_FILE = "times.json"
DEFAULT_FPS = 12.0
_ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_ORIENTATION = 0x0112
"""The EXIF tag; values from 5 on exchange width and height."""

_FRAME_FILE = re.compile(r"frame_\d{5,}\.png")


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order.

    Raises:
        InputError: if there are none.
    """
    pictures = [p for p in folder.iterdir() if p.suffix.lower() in _ENDINGS and not p.name.startswith(".")]
    if not pictures:
        raise InputError(f"expected pictures ({', '.join(sorted(_ENDINGS))}) in the folder {folder}, found none")
    return sorted(pictures, key=_natural_key)


def probe_folder(folder: Path, *, fps: float | int | None = None) -> ClipInfo:
    """What a folder of pictures shows; only the heads of the files are read.

    Args:
        folder: where the pictures are.
        fps: frames a second, above 0; None = as `times.json` says, or 12.

    Raises:
        InputError: if there are no pictures, one is unreadable, or they are not all of one size.
    """
    pictures = list_pictures(folder)
    sizes = [_upright_size(picture) for picture in pictures]
    for picture, size in zip(pictures, sizes, strict=True):
        if size != sizes[0]:
            raise InputError(
                f"frames must be of one size: {pictures[0].name} has {sizes[0][1]}x{sizes[0][0]} pixels, "
                f"{picture.name} {size[1]}x{size[0]}; resize or remove it"
            )
    timeline = _written_times(folder, len(pictures)) if fps is None else Timeline.steady(len(pictures), fps)
    height, width = sizes[0]
    return ClipInfo(path=folder, kind="folder", height=height, width=width, times=timeline.times, end=timeline.end)


def read_folder(info: ClipInfo, wanted: range) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The wanted frames of a folder that `probe_folder` described, one at a time.

    Raises:
        InputError: if one of them cannot be read, or pictures came or went in the meantime.
    """
    pictures = list_pictures(info.path)
    if len(pictures) != info.frames:
        raise InputError(
            f"{info.path} had {info.frames} pictures and now has {len(pictures)}: leave it alone, run again"
        )
    for number in wanted:
        yield image_to_bytes(load_image(pictures[number]))[0].numpy()


def holds_only_frames(folder: Path) -> bool:
    """Whether a folder is empty, or one of `PictureSink`: nothing of anybody else would be lost with it."""
    if not folder.is_dir():
        return False
    held = list(folder.iterdir())
    # Other programs number frames alike; the times that lie beside them are this sink's alone.
    if held and not (folder / TIMES_FILE).is_file():
        return False
    return all(p.is_file() and (_FRAME_FILE.fullmatch(p.name) or p.name == TIMES_FILE) for p in held)


class PictureSink:
    """Writes the frames of a timeline as `frame_00000.png` and so on, beside `times.json`."""

    codec = "png"

    def __init__(self, folder: Path, timeline: Timeline) -> None:
        """Make the folder, which must not exist."""
        folder.mkdir()
        self._folder, self._timeline, self._written = folder, timeline, 0

    def write(self, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        """Write the next frame."""
        from PIL import Image

        Image.fromarray(pixels).save(self._folder / f"frame_{self._written:05d}.png")
        self._written += 1

    def finish(self) -> None:
        """Write when the frames are shown."""
        begin = self._timeline.times[0]
        times = [time - begin for time in self._timeline.times]
        record = {"times": times, "end": self._timeline.end - begin}
        (self._folder / TIMES_FILE).write_text(json.dumps(record) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Nothing is open."""


def _natural_key(path: Path) -> list[tuple[int, str]]:
    # Digits count as numbers, and numbers come before words, so that keys of any two names can be compared.
    parts = re.findall(r"\d+|\D+", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in parts] + [(-2, path.name)]


def _upright_size(path: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION, 1) >= 5
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"cannot read {path} as a picture ({error}): convert it to PNG or JPEG, or remove it"
        ) from error
    return (width, height) if turned else (height, width)


def _written_times(folder: Path, frames: int) -> Timeline:
    path = folder / TIMES_FILE
    if not path.is_file():
        return Timeline.steady(frames, DEFAULT_FPS)
    try:
        record = json.loads(path.read_text("utf-8"))
        timeline = Timeline(times=tuple(map(float, record["times"])), end=float(record["end"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read the times of frames in {path} ({error}): remove it or name fps") from error
    if len(timeline) != frames:
        raise InputError(
            f"{path} has the times of {len(timeline)} frames, the folder has {frames}: remove it or name fps"
        )
    return timeline
