"""The demo's pictures: held-out scenes of the blocks world, edited by both editors and measured against truth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..bench.blocks import EditPairs, make_pairs
from ..bench.outcome import METRICS, Outcome, measure_outcome, request_from_pairs
from ..bench.table import Row
from ..editors import (
    Backbone,
    FoIConfig,
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


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures with the same number of instructions, what each editor made of them, and how good it is."""

    instructions: int
    pairs: EditPairs
    ip2p: Outcome
    foi: Outcome
    figures: dict[str, dict[str, float | None]]
    """The metrics of `maskedit bench foi`, by method."""


def edit_pictures(backbone: Backbone, *, instructions: int, count: int, step: Callable[[int], None]) -> PictureSet:
    """Edit held-out scenes with both editors and measure.

    Args:
        backbone: the checkpoint.
        instructions: per picture, 1 or 2.
        count: number of pictures.
        step: is told of every finished edit.
    """
    pairs = make_pairs("test", range(count), edits=instructions, height=backbone.native_size)
    outcomes = {
        "unedited": Outcome(raw=pairs.source, kept=pairs.source, mask=None, seconds=0.0, coded=False),
        "ip2p": _edit_all(pairs, backbone, IP2PConfig(keep_outside="paper"), step),
        "foi": _edit_all(pairs, backbone, FoIConfig(keep_outside="paper"), step),
    }
    figures = {name: _means(measure_outcome(pairs, outcome, backbone)) for name, outcome in outcomes.items()}
    return PictureSet(
        instructions=instructions, pairs=pairs, ip2p=outcomes["ip2p"], foi=outcomes["foi"], figures=figures
    )


def _edit_all(
    pairs: EditPairs, backbone: Backbone, config: IP2PConfig | FoIConfig, step: Callable[[int], None]
) -> Outcome:
    editor = make_editor(config, backbone)
    raw, masks, refused, seconds = list[Tensor](), list[Tensor](), set[int](), 0.0
    for row in range(len(pairs.specs)):
        source = pairs.source[row : row + 1]
        try:
            result = editor.edit(request_from_pairs(pairs, row, seed=row, device=backbone.device))
        except NothingFoundError:
            # A picture in which nothing is found stays as it is, and is measured as such.
            refused.add(row)
            raw.append(source)
            masks.append(torch.zeros_like(source[:, :1]))
        else:
            raw.append(result.image.cpu())
            masks.append(result.mask.cpu())
            seconds += result.trace.seconds
        step(1)
    pictures, mask = torch.cat(raw), torch.cat(masks)
    return Outcome(
        raw=pictures,
        kept=composite(pictures, pairs.source, mask),
        mask=None if isinstance(config, IP2PConfig) else mask,
        seconds=seconds / len(pairs.specs),
        refused=frozenset(refused),
    )


def _means(rows: Sequence[Row]) -> dict[str, float | None]:
    """Mean of each metric over the pictures in which it has a value; None = in none of them."""
    found: dict[str, float | None] = {}
    for metric in METRICS:
        values = [value for row in rows if isinstance(value := row[metric], float) and math.isfinite(value)]
        found[metric] = sum(values) / len(values) if values else None
    return found


def _mask_of(outcome: Outcome) -> Mask:
    return torch.ones_like(outcome.raw[:, :1]) if outcome.mask is None else outcome.mask


def save_strips(pictures: PictureSet, folder: Path) -> None:
    """Write before | after for InstructPix2Pix and before | mask | after for FoI, of every picture."""
    for row in range(len(pictures.pairs.specs)):
        rows = slice(row, row + 1)
        source = pictures.pairs.source[rows]
        stem = f"{NAMES[pictures.instructions]}_{row:02d}"
        save_image(side_by_side([source, pictures.ip2p.raw[rows]]), folder / f"{stem}_ip2p.png")
        panels = [source, _mask_of(pictures.foi)[rows], pictures.foi.kept[rows]]
        save_image(side_by_side(panels), folder / f"{stem}_foi.png")


def describe_pictures(pictures: PictureSet) -> Section:
    """The section of the report."""
    pairs = pictures.pairs
    shown = overlay_mask(pairs.source, _mask_of(pictures.foi))
    columns = (pairs.source, pictures.ip2p.raw, shown, pictures.foi.kept, pairs.target)
    rows = tuple(
        (spec.instruction, tuple(column[row : row + 1] for column in columns)) for row, spec in enumerate(pairs.specs)
    )
    return Section(
        title=f"Pictures with {NAMES[pictures.instructions]} instruction{'s' if pictures.instructions > 1 else ''}",
        parts=(
            Table(
                caption=f"{len(pairs.specs)} held-out pictures, measured as `maskedit bench foi` does: means over "
                "pictures, PSNR in dB, higher is better. Inside = the model's own picture against the truly edited "
                "one, where the truth changes. Outside = the same picture against the source after the autoencoder "
                "alone, where the truth does not change; FoI then puts these pixels back. Result = the whole picture "
                "as a user gets it, against the truth. Followed = share of edits that come close to it, refused = "
                "share of pictures in which nothing to edit was found.",
                columns=(
                    "",
                    "mask IoU",
                    "PSNR inside",
                    "PSNR outside",
                    "PSNR of the result",
                    "followed",
                    "refused",
                    "s per picture",
                ),
                rows=tuple((name, *(figures[m] for m in METRICS)) for name, figures in pictures.figures.items()),
            ),
            Gallery(columns=("before", "InstructPix2Pix", "FoI's mask", "FoI", "truth"), rows=rows),
        ),
    )
