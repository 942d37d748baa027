"""The demo's pictures: held-out scenes of the blocks world, edited by both editors and measured against truth."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from ..bench.blocks import EditPairs, make_pairs
from ..editors import (
    Backbone,
    EditRequest,
    FoIConfig,
    Image,
    Instruction,
    IP2PConfig,
    Mask,
    NothingFoundError,
    composite,
    make_editor,
    overlay_mask,
    save_image,
    side_by_side,
)
from .report import Gallery, Section, Table

NAMES = {1: "one", 2: "two"}
METRICS = ("psnr_inside", "psnr_outside", "psnr_whole", "mask_iou", "followed", "seconds")
FOLLOWED_SHARE = 0.25
"""An edit counts as followed where its squared error inside is below this share of the unedited picture's."""


@dataclass(frozen=True, kw_only=True)
class Edited:
    """What an editor made of the pictures."""

    raw: Image
    """The model's own pictures."""
    mask: Mask
    """Ones where the editor has no mask."""
    seconds: float
    """Per picture."""


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures with the same number of instructions, what each editor made of them, and how good it is."""

    instructions: int
    pairs: EditPairs
    ip2p: Edited
    foi: Edited
    figures: dict[str, dict[str, float | None]]
    """Metrics by method."""

    @property
    def kept(self) -> Image:
        """FoI's pictures as a user gets them: what is outside the masks is the source's."""
        return composite(self.foi.raw, self.pairs.source, self.foi.mask)


def edit_pictures(backbone: Backbone, *, instructions: int, count: int, step: Callable[[int], None]) -> PictureSet:
    """Edit held-out scenes with both editors and measure.

    Args:
        backbone: the checkpoint.
        instructions: per picture, 1 or 2.
        count: number of pictures.
        step: is told of every finished edit.
    """
    pairs = make_pairs("test", range(count), edits=instructions, height=backbone.native_size)
    ip2p = _edit_all(pairs, backbone, IP2PConfig(keep_outside="paper"), step)
    foi = _edit_all(pairs, backbone, FoIConfig(keep_outside="paper"), step)
    found = PictureSet(instructions=instructions, pairs=pairs, ip2p=ip2p, foi=foi, figures={})
    shown = {
        "unedited": (pairs.source, None, None),
        "ip2p": (ip2p.raw, None, ip2p.seconds),
        "foi": (found.kept, foi.mask, foi.seconds),
        "foi, outside not put back": (foi.raw, foi.mask, foi.seconds),
    }
    for name, (image, mask, seconds) in shown.items():
        found.figures[name] = {
            **region_psnrs(image, pairs.target, pairs.changed),
            "mask_iou": None if mask is None else mean_iou(mask >= 0.5, pairs.mask),
            "followed": share_followed(image, pairs),
            "seconds": seconds,
        }
    return found


def _edit_all(
    pairs: EditPairs, backbone: Backbone, config: IP2PConfig | FoIConfig, step: Callable[[int], None]
) -> Edited:
    editor = make_editor(config, backbone)
    raw: list[Tensor] = []
    masks: list[Tensor] = []
    seconds = 0.0
    for row, spec in enumerate(pairs.specs):
        source = pairs.source[row : row + 1]
        instructions = tuple(Instruction(text=edit.text, keyword=edit.keyword) for edit in spec.edits)
        try:
            request = EditRequest(image=source.to(backbone.device), instructions=instructions, seeds=(row,))
            result = editor.edit(request)
        except NothingFoundError:
            # A picture in which nothing is found stays as it is, and is measured as such.
            raw.append(source)
            masks.append(torch.zeros_like(source[:, :1]))
        else:
            raw.append(result.image.cpu())
            masks.append(result.mask.cpu())
            seconds += result.trace.seconds
        step(1)
    return Edited(raw=torch.cat(raw), mask=torch.cat(masks), seconds=seconds / len(pairs.specs))


def region_psnrs(image: Image, truth: Image, changed: Bool[Tensor, "batch 1 height width"]) -> dict[str, float | None]:
    """PSNR in dB against the truly edited pictures where the truth changes, elsewhere, and everywhere.

    Errors are averaged over the pixels of all pictures before the logarithm; None = no error, or no pixel.
    """
    error = (image - truth).pow(2).mean(1, keepdim=True)
    regions = {"psnr_inside": changed, "psnr_outside": ~changed, "psnr_whole": torch.ones_like(changed)}
    found: dict[str, float | None] = {}
    for name, region in regions.items():
        mean = float(error[region].mean()) if bool(region.any()) else 0.0
        found[name] = -10 * math.log10(mean) if mean > 0 else None
    return found


def mean_iou(mask: Bool[Tensor, "batch 1 height width"], truth: Bool[Tensor, "batch 1 height width"]) -> float:
    """Intersection over union, averaged over pictures; 1 where both are empty."""
    both, either = (mask & truth).sum((1, 2, 3)), (mask | truth).sum((1, 2, 3))
    return float(torch.where(either > 0, both / either.clamp(min=1), 1.0).mean())


def share_followed(image: Image, pairs: EditPairs) -> float:
    """Share of pictures that come close to the truth where it differs from the source."""
    inside = pairs.changed.float()
    left = ((image - pairs.target).pow(2) * inside).sum((1, 2, 3))
    start = ((pairs.source - pairs.target).pow(2) * inside).sum((1, 2, 3))
    return float((left < FOLLOWED_SHARE * start).float().mean())


def save_strips(pictures: PictureSet, folder: Path) -> None:
    """Write before | after for InstructPix2Pix and before | mask | after for FoI, of every picture."""
    for row in range(len(pictures.pairs.specs)):
        rows = slice(row, row + 1)
        source = pictures.pairs.source[rows]
        stem = f"{NAMES[pictures.instructions]}_{row:02d}"
        save_image(side_by_side([source, pictures.ip2p.raw[rows]]), folder / f"{stem}_ip2p.png")
        panels = [source, pictures.foi.mask[rows], pictures.kept[rows]]
        save_image(side_by_side(panels), folder / f"{stem}_foi.png")


def describe_pictures(pictures: PictureSet) -> Section:
    """The section of the report."""
    pairs = pictures.pairs
    shown = overlay_mask(pairs.source, pictures.foi.mask)
    columns = (pairs.source, pictures.ip2p.raw, shown, pictures.kept, pairs.target)
    rows = tuple(
        (spec.instruction, tuple(column[row : row + 1] for column in columns)) for row, spec in enumerate(pairs.specs)
    )
    return Section(
        title=f"Pictures with {NAMES[pictures.instructions]} instruction{'s' if pictures.instructions > 1 else ''}",
        parts=(
            Table(
                caption=f"{len(pairs.specs)} held-out pictures. PSNR in dB against the truly edited scene, higher is "
                "better: inside = where the truth changes. Followed = share of pictures close to the truth there.",
                columns=("", "PSNR inside", "PSNR outside", "PSNR whole", "mask IoU", "followed", "s per picture"),
                rows=tuple((name, *(figures[m] for m in METRICS)) for name, figures in pictures.figures.items()),
            ),
            Gallery(columns=("before", "InstructPix2Pix", "FoI's mask", "FoI", "truth"), rows=rows),
        ),
    )
