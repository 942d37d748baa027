"""Pictures on the command line: which files are read and written, checked before a model is loaded.

Every picture NAME.* gives NAME_edited.png, NAME_mask.png, NAME_strip.png and NAME.json in the output folder. The JSON
is written last, so that its presence means a complete result.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..editors import (
    PER_IMAGE,
    EditResult,
    Image,
    InputError,
    Instruction,
    Mask,
    load_image,
    load_mask,
    save_image,
    write_atomic,
)

PACKAGES = ("maskedit", "torch", "diffusers", "transformers")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture file to edit."""

    path: Path
    """As the user gave it."""
    name: str
    """Stem of everything that is written for it."""
    number: int
    """Its place on the command line, which decides its seed."""
    height: int
    width: int


def check_pictures(paths: Sequence[Path], output: Path, endings: Sequence[str]) -> tuple[Picture, ...]:
    """Read every picture once, and make sure that writing its results loses nothing.

    Args:
        paths: picture files.
        output: folder of the results; it is not made yet.
        endings: what will be added to a picture's name.

    Raises:
        InputError: if a picture cannot be read, or a result could not be written or would replace an input.
    """
    if not paths:
        raise InputError("expected at least one picture, got none: maskedit edit PICTURE --instruction TEXT")
    check_output(output)
    pictures: list[Picture] = []
    taken: set[str] = set()
    for number, path in enumerate(paths):
        height, width = load_image(path).shape[-2:]
        name = _free_name(path.stem, taken)
        taken.add(name)
        pictures.append(Picture(path=path, name=name, number=number, height=height, width=width))
    inputs = {path.resolve() for path in paths}
    for picture in pictures:
        for ending in endings:
            if (output / f"{picture.name}{ending}").resolve() in inputs:
                raise InputError(
                    f"the result {output / (picture.name + ending)} would replace an input: choose another --output"
                )
    return tuple(pictures)


def _free_name(stem: str, taken: set[str]) -> str:
    """Two pictures of the same name from different folders get different results."""
    number, name = 1, stem
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def check_output(folder: Path, *, flag: str = "--output") -> None:
    """Make sure that a folder can be written to, without making it.

    Raises:
        InputError: if it cannot.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"expected a folder for {flag}, but {place} is a file: choose another {flag}")
    try:
        # Permissions alone do not tell: a full disk, a read-only mount or /proc refuse only when asked.
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"0" * 4096)
    except OSError as error:
        raise InputError(f"cannot write to {place} ({error.strerror}): choose another {flag}") from error


def batches(pictures: Sequence[Picture], most: Callable[[], int]) -> Iterator[tuple[Picture, ...]]:
    """Pictures of the same size together, at most so many; `most` is asked before each batch."""
    by_size = sorted(pictures, key=lambda p: (p.height, p.width, p.number))
    for _, group in groupby(by_size, key=lambda p: (p.height, p.width)):
        same = list(group)
        while same:
            count = most()
            yield tuple(same[:count])
            same = same[count:]


def read_batch(pictures: Sequence[Picture]) -> Image:
    """The pictures of one batch."""
    return torch.cat([load_image(picture.path) for picture in pictures])


def read_masks(paths: Sequence[Path], pictures: Sequence[Picture]) -> tuple[Mask, ...]:
    """Mask files, each as large as every picture.

    Raises:
        InputError: if a mask cannot be read, is empty or has another size.
    """
    masks: list[Mask] = []
    for path in paths:
        mask = load_mask(path)
        height, width = mask.shape[-2:]
        for picture in pictures:
            if (height, width) != (picture.height, picture.width):
                raise InputError(
                    f"expected the mask {path} as large as {picture.path}, {picture.width}x{picture.height} pixels, "
                    f"got {width}x{height}: resize it first"
                )
        if not bool((mask > 0).any()):
            raise InputError(f"the mask {path} is black everywhere, so nothing may change: paint the region white")
        masks.append(mask)
    return tuple(masks)


def assign_masks(
    instructions: tuple[Instruction, ...], paths: Sequence[Path], pictures: Sequence[Picture]
) -> tuple[tuple[Instruction, ...], Mask | None]:
    """Instructions with masks from files, and the mask of all of them where only one was given.

    Raises:
        InputError: if a mask cannot be used, or their number fits neither.
    """
    masks = read_masks(paths, pictures)
    if len(masks) <= 1:
        return instructions, masks[0] if masks else None
    if len(masks) != len(instructions):
        raise InputError(
            f"expected --mask once, or once for each of {len(instructions)} instructions, got it {len(masks)} times"
        )
    return tuple(replace(i, mask=m) for i, m in zip(instructions, masks, strict=True)), None


def trace_of(result: EditResult, row: int) -> dict[str, Any]:
    """The trace of one picture of a batch."""
    trace = asdict(result.trace.of_image(row, len(result.image)))
    for name in PER_IMAGE:
        trace[name] = trace[name][0] if trace[name] else None
    return trace


def installed_versions() -> dict[str, str | None]:
    """Versions of the packages that decide a result."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def write_results(
    output: Path, picture: Picture, images: Mapping[str, Float[Tensor, "1 _ _ _"]], record: Mapping[str, Any]
) -> tuple[Path, ...]:
    """Write the pictures of a result by their endings, then its JSON.

    Raises:
        InputError: if the disk refuses; nothing of this picture is left then.
    """
    written: list[Path] = []
    try:
        for ending, image in images.items():
            written.append(save_image(image, output / f"{picture.name}{ending}"))
        files = {ending.removeprefix("_").removesuffix(".png"): f"{picture.name}{ending}" for ending in images}
        written.append(write_record(output / f"{picture.name}.json", {**record, "files": files}))
    except InputError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return tuple(written)


def write_record(path: Path, record: Mapping[str, Any]) -> Path:
    """Write JSON in one move.

    Raises:
        InputError: if the file cannot be written.
    """
    return write_text(path, json.dumps(record, indent=2, default=str) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file in one move, so that a half-written one is never seen.

    Raises:
        InputError: if the file cannot be written.
    """
    write_atomic(path, lambda file: file.write(text.encode()), hint="choose another --output", error=InputError)
    return path
