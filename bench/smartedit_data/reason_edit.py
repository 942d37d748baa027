"""Reason-Edit, the 219 pictures SmartEdit is judged on (arXiv 2312.06739, section 5.1), as they are downloaded.

Six folders, five of understanding (1-Left-Right, 2-Relative-Size, 3-Mirror, 4-Color, 5-Multiple-Objects) and one of
reasoning (6-Reasoning), each with `*.png`, `*_mask.jpg` and a list of lines `INSTRUCTION CLIP: LABEL`, one for each
picture in the order of their names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ...editors import Image, InputError, Mask, load_image
from .layout import read_text
from .pictures import same_frame

UNDERSTANDING = {
    "1-Left-Right": "Left_Right_text.txt",
    "2-Relative-Size": "Size_text.txt",
    "3-Mirror": "Mirror_text.txt",
    "4-Color": "Color_text.txt",
    "5-Multiple-Objects": "MultipleObjects_text.txt",
}
"""Folders of understanding, each with its list."""
REASONING = {"6-Reasoning": "Reason_test.txt"}
"""The folder of reasoning with its list, which is named in another way."""
COMPLETE = 219
"""Samples of the whole set."""
_MARK = "CLIP: "
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class ReasonEditItem:
    """One sample."""

    image: Image
    """The picture, a batch of one, at its own size."""
    mask: Float[Tensor, "batch 1 mask_height mask_width"]
    """Where the edit belongs, a batch of one, with the grey levels of its file; it may be of another size than the
    picture, of which it is the same frame."""
    instruction: str
    """What a person would say."""
    label: str
    """What the edited region should show, for CLIP."""
    folder: str
    """The folder it came from, which says what it asks of the reader."""
    name: str
    """Name of the picture's file, without its ending."""

    @property
    def is_reasoning(self) -> bool:
        """Whether it counts as reasoning rather than as understanding."""
        return self.folder in REASONING


@dataclass(frozen=True, kw_only=True)
class _Entry:
    image: Path
    mask: Path
    instruction: str
    label: str


class ReasonEdit(Sequence[ReasonEditItem]):
    """The set: indexed at once, pictures read when asked for, safe to read from several threads."""

    def __init__(self, root: Path) -> None:
        """Index what is there.

        Args:
            root: the folder of the six folders.

        Raises:
            InputError: if none of them is there, or one is damaged.
        """
        folders = {**UNDERSTANDING, **REASONING}
        self.missing = tuple(name for name in folders if not (root / name).is_dir())
        """Folders that are not there."""
        if len(self.missing) == len(folders):
            raise InputError(f"no Reason-Edit in {root}: expected the folders {', '.join(folders)}")
        present = [name for name in folders if name not in self.missing]
        self._entries = [entry for name in present for entry in _read_folder(root / name, folders[name])]

    def __len__(self) -> int:
        """How many samples are there."""
        return len(self._entries)

    def __getitem__(self, index: int) -> ReasonEditItem:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read one.

        Raises:
            InputError: if its picture or mask is broken, or they show different frames.
        """
        entry = self._entries[index]
        image, mask = load_image(entry.image), _read_mask(entry.mask)
        if not same_frame(image.shape, mask.shape):
            sizes = [f"{width} x {height}" for height, width in (image.shape[2:], mask.shape[2:])]
            raise InputError(f"{entry.mask} has {sizes[1]} pixels, its picture {sizes[0]}: expected the same frame")
        return ReasonEditItem(
            image=image,
            mask=mask,
            instruction=entry.instruction,
            label=entry.label,
            folder=entry.image.parent.name,
            name=entry.image.stem,
        )

    @property
    def is_complete(self) -> bool:
        """Whether scores over it are over what the paper's are."""
        return not self.missing and len(self) == COMPLETE

    @property
    def summary(self) -> str:
        """One line on how much of the set is there."""
        lacking = f", without {', '.join(self.missing)}" if self.missing else ""
        return f"Reason-Edit: {len(self)} of {COMPLETE} samples{lacking}"


def open_reason_edit(root: Path) -> ReasonEdit:
    """Reason-Edit in a folder.

    Args:
        root: the folder of the six folders, as it is downloaded.

    Raises:
        InputError: if none of them is there, or one is damaged.

    Source:
        specification by the released evaluation code of SmartEdit, arXiv 2312.06739.
    """
    return ReasonEdit(root)


def _read_folder(folder: Path, listing: str) -> list[_Entry]:
    images = sorted(folder.glob("*.png"))
    masks = _match_masks(folder, images)
    if not (folder / listing).is_file():
        raise InputError(f"{folder} has no {listing}: expected a line 'INSTRUCTION {_MARK}LABEL' for each picture")
    lines = read_text(folder / listing).rstrip().splitlines()
    if len(lines) != len(images):
        raise InputError(f"{folder / listing} has {len(lines)} lines for {len(images)} pictures: expected one for each")
    entries: list[_Entry] = []
    for number, (image, mask, line) in enumerate(zip(images, masks, lines, strict=True), 1):
        instruction, mark, label = line.partition(_MARK)
        if not (mark and instruction.strip() and label.strip()):
            form = f"expected 'INSTRUCTION {_MARK}LABEL', got {line[:60]!r}"
            raise InputError(f"{folder / listing}, line {number}: {form}")
        entries.append(_Entry(image=image, mask=mask, instruction=instruction.rstrip(), label=label.strip()))
    return entries


def _match_masks(folder: Path, images: Sequence[Path]) -> list[Path]:
    masks = sorted(folder.glob("*_mask.jpg"))
    by_name = [folder / f"{image.stem}_mask.jpg" for image in images]
    lacking = [mask for mask in by_name if mask not in masks]
    if len(masks) != len(images):
        first = f", e.g. no {lacking[0].name}" if lacking else ""
        raise InputError(f"{folder} has {len(masks)} masks for {len(images)} pictures{first}: expected one for each")
    # The published code goes by sorted order alone, which puts 10_mask before 1_mask but 1 before 10.
    return masks if len(lacking) == len(images) else _named(folder, by_name, lacking)


def _named(folder: Path, by_name: list[Path], lacking: Sequence[Path]) -> list[Path]:
    if lacking:
        raise InputError(f"{folder} has no {lacking[0].name}: expected a mask for each picture")
    return by_name


def _read_mask(path: Path) -> Mask:
    # Not `load_mask`, which takes almost black for black: the paper's box is around all pixels that are not 0.
    levels = load_image(path)
    grey = (levels * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return (grey * 255).round() / 255
