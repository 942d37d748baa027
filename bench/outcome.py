"""What an editor made of pairs with exact truth: runs editors on them and measures how well the truth was met.

Metrics, each the mean over pictures of a value per picture:

- `mask_iou`: the union mask at 0.5 against the silhouettes of the edited blocks before and after.
- `psnr_inside` (dB): the model's own picture against the truly edited one, where the truth differs from the source.
- `psnr_outside` (dB): the model's own picture (`keep_outside="paper"`) against the autoencoder's round trip of the
  source, where the truth equals the source; the codec's blur thus hides no over-editing.
- `psnr_truth` (dB): the whole picture as a user gets it (`keep_outside="exact"`) against the truth.
- `followed`: share of edits whose squared error inside is under a quarter of the unedited picture's.
- `refused`: share of pictures in which the editor found nothing to edit and said so, or did not
  understand the instruction; they count as left alone.
- `seconds`: per picture, edited one at a time, the encoding of the source excluded.

The unedited picture never saw the autoencoder, so outside it is compared with itself. A value without meaning (the
error of a picture without any, the mask of an editor without one) is left out of its mean; a mean of none is null.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..editors import (
    Backbone,
    Editor,
    EditRequest,
    Instruction,
    NothingFoundError,
    ParseError,
    composite,
    dilate_mask,
    in_chunks,
    resize_image,
    save_image,
)
from .blocks.pairs import EditPairs
from .table import Row

FOLLOWED_SHARE = 0.25
METRICS = ("mask_iou", "psnr_inside", "psnr_outside", "psnr_truth", "followed", "refused", "seconds")
_EDGE_PIXELS = 2
_CODED_AT_ONCE = 8

Progress: TypeAlias = Callable[[str, int, int], None]
"""Receives what is being measured, pictures done and pictures in all."""
RequestMaker: TypeAlias = Callable[[EditPairs, int, int], EditRequest]
"""The request of one row of some pairs, with a seed."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method made of a batch of pairs."""

    raw: Float[Tensor, "batch 3 height width"]
    """The model's own pictures."""
    kept: Float[Tensor, "batch 3 height width"]
    """With what is outside the mask put back."""
    mask: Float[Tensor, "batch 1 height width"] | None
    """None where the method has no mask."""
    seconds: float
    """Per picture."""
    coded: bool = True
    """Whether the pictures went through the autoencoder."""
    refused: frozenset[int] = frozenset()
    """Rows in which the method found nothing to edit."""


def request_from_pairs(pairs: EditPairs, row: int, *, seed: int, device: torch.device) -> EditRequest:
    """The request of one pair; instructions differ from pair to pair, so each is its own request."""
    edits = pairs.specs[row].edits
    return EditRequest(
        image=pairs.source[row : row + 1].to(device),
        instructions=tuple(Instruction(text=edit.text, keyword=edit.keyword) for edit in edits),
        seeds=(seed,),
    )


def edit_all(
    pairs: Sequence[EditPairs],
    editor: Editor | None,
    backbone: Backbone,
    make_request: RequestMaker,
    *,
    has_mask: bool = True,
    report: Callable[[int, int], None] = lambda *_: None,
) -> list[Outcome]:
    """Edit every picture by itself; its seed is its number, whatever the batch.

    Args:
        pairs: in batches.
        editor: with `keep_outside="paper"`; None = leave the pictures as they are.
        backbone: the editor's.
        make_request: says what to do.
        has_mask: whether the editor's masks mean anything.
        report: receives pictures done and pictures in all.
    """
    total = sum(len(batch.specs) for batch in pairs)
    done = 0
    outcomes: list[Outcome] = []
    for batch in pairs:
        if editor is None:
            outcomes.append(Outcome(raw=batch.source, kept=batch.source, mask=None, seconds=0.0, coded=False))
        else:
            requests = [make_request(batch, row, done + row) for row in range(len(batch.specs))]
            outcome = _edit_batch(
                batch, editor, backbone, requests, has_mask, lambda count, before=done: report(before + count, total)
            )
            outcomes.append(outcome)
        done += len(batch.specs)
    return outcomes


def _edit_batch(
    pairs: EditPairs,
    editor: Editor,
    backbone: Backbone,
    requests: Sequence[EditRequest],
    has_mask: bool,
    report: Callable[[int], None],
) -> Outcome:
    untouched = round_trip(pairs, backbone)
    images, masks, refused = list(untouched.split(1)), list(torch.zeros_like(untouched[:, :1]).split(1)), set[int]()
    start = time.perf_counter()
    for row, request in enumerate(requests):
        try:
            result = editor.edit(request)
            images[row], masks[row] = result.image.cpu(), result.mask.cpu()
        except (NothingFoundError, ParseError):
            refused.add(row)
        report(row + 1)
    seconds = (time.perf_counter() - start) / len(pairs.specs)
    raw, mask = torch.cat(images), torch.cat(masks)
    return Outcome(
        raw=raw,
        kept=composite(raw, pairs.source, mask),
        mask=mask if has_mask else None,
        seconds=seconds,
        refused=frozenset(refused),
    )


def round_trip(pairs: EditPairs, backbone: Backbone) -> Float[Tensor, "batch 3 height width"]:
    """The sources after encoding and decoding: what an editor gives back that changes nothing."""

    def one(rows: slice) -> Tensor:
        latents = backbone.encode(pairs.source[rows].to(backbone.device))
        return backbone.decode(backbone.scale_latents(latents)).cpu()

    return torch.cat(in_chunks(one, len(pairs.source), chunk=_CODED_AT_ONCE))


def measure_all(pairs: Sequence[EditPairs], outcomes: Sequence[Outcome], backbone: Backbone) -> list[Row]:
    """The metrics of every picture of all batches."""
    return [
        value
        for batch, outcome in zip(pairs, outcomes, strict=True)
        for value in measure_outcome(batch, outcome, backbone)
    ]


def measure_outcome(pairs: EditPairs, outcome: Outcome, backbone: Backbone) -> list[Row]:
    """The metrics of every picture of a batch."""
    untouched = round_trip(pairs, backbone) if outcome.coded else pairs.source
    error = squared_error(outcome.raw, pairs.target)
    unedited = squared_error(pairs.source, pairs.target)
    over = squared_error(outcome.raw, untouched)
    truth = squared_error(outcome.kept, pairs.target)
    rows: list[Row] = []
    for i, spec in enumerate(pairs.specs):
        changed, refused = pairs.changed[i], i in outcome.refused
        regions = [changed & _near(mask) for mask in pairs.masks[i]]
        # An edit that nothing shows (its block stands behind another) can be neither followed nor missed.
        shown = [r for r in regions if bool(r.any())]
        followed = [_mean(error[i], r) < FOLLOWED_SHARE * _mean(unedited[i], r) for r in shown]
        rows.append(
            {
                "kind": spec.edits[0].kind,
                "mask_iou": math.nan if outcome.mask is None else _iou(outcome.mask[i] >= 0.5, pairs.mask[i]),
                "psnr_inside": psnr(_mean(error[i], changed)),
                "psnr_outside": math.nan if refused else psnr(_mean(over[i], ~changed)),
                "psnr_truth": psnr(float(truth[i].mean())),
                "followed": sum(followed) / len(followed) if followed else math.nan,
                "refused": float(refused),
                "seconds": outcome.seconds,
            }
        )
    return rows


def summarise(method: str, name: str, values: Sequence[Row]) -> Row:
    """Means over pictures; infinite and undefined values are left out of a mean and a metric without any is null."""
    row: Row = {"method": method, "set": name, "pictures": len(values)}
    for metric in METRICS:
        numbers = [value for v in values if isinstance(value := v[metric], float) and math.isfinite(value)]
        row[metric] = sum(numbers) / len(numbers) if numbers else None
    return row


def _near(mask: Bool[Tensor, "height width"]) -> Bool[Tensor, "1 height width"]:
    """A silhouette with the pixels around it, where its shadow changes."""
    return dilate_mask(mask[None, None].float(), _EDGE_PIXELS)[0] > 0


def squared_error(
    image: Float[Tensor, "batch 3 height width"], reference: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """Mean squared error of each pixel over its channels."""
    return (image - reference).pow(2).mean(1, keepdim=True)


def _mean(error: Float[Tensor, "1 height width"], region: Bool[Tensor, "1 height width"]) -> float:
    return float(error[region].mean()) if bool(region.any()) else math.nan


def psnr(error: float) -> float:
    """Decibels of a mean squared error of values in [0, 1]; infinite without any."""
    return -10 * math.log10(error) if error > 0 else math.inf


def _iou(mask: Bool[Tensor, "1 height width"], truth: Bool[Tensor, "1 height width"]) -> float:
    return float((mask & truth).sum()) / max(1.0, float((mask | truth).sum()))


def save_sheet(columns: Sequence[Float[Tensor, "_ 3 _ _"]], path: Path, *, rows: int = 12) -> None:
    """Save pictures at twice their size as a table: one column each, one row per scene that all of them have."""
    size = 2 * columns[0].shape[-1]
    sheet = [
        torch.cat([resize_image(column[i : i + 1], size, size) for column in columns], -1)
        for i in range(min(rows, *(len(column) for column in columns)))
    ]
    save_image(torch.cat(sheet, -2), path)
