"""FoI against InstructPix2Pix and doing nothing, on held-out blocks scenes with exact truth.

Metrics, each the mean over pictures of a value per picture:

- `mask_iou`: the union mask at 0.5 against the silhouettes of the edited blocks before and after.
- `psnr_inside` (dB): the model's own picture against the truly edited one, where the truth differs from the source.
- `psnr_outside` (dB): the model's own picture (`keep_outside="paper"`) against the autoencoder's round trip of the
  source, where the truth equals the source; the codec's blur thus hides no over-editing.
- `psnr_truth` (dB): the whole picture as a user gets it (`keep_outside="exact"`) against the truth.
- `followed`: share of edits whose squared error inside is under a quarter of the unedited picture's.
- `refused`: share of pictures in which the editor found nothing to edit and said so; they count as left alone.
- `seconds`: per picture, edited one at a time, the encoding of the source excluded.

The unedited picture never saw the autoencoder, so outside it is compared with itself. A value without meaning (the
error of a picture without any, the mask of an editor without one) is left out of its mean; a mean of none is null.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..editors import (
    Backbone,
    EditorConfig,
    EditRequest,
    FoIConfig,
    Instruction,
    IP2PConfig,
    NothingFoundError,
    composite,
    dilate_mask,
    in_chunks,
    make_editor,
    overlay_mask,
    resize_image,
    save_image,
)
from .blocks.pairs import EditPairs, make_pairs
from .table import Document, Row, make_document

FOLLOWED_SHARE = 0.25
METRICS = ("mask_iou", "psnr_inside", "psnr_outside", "psnr_truth", "followed", "refused", "seconds")
_EDGE_PIXELS = 2
_CODED_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class FoIBenchConfig:
    """What to measure."""

    scenes: int = 200
    """Held-out scenes per set."""
    batch: int = 25
    """Scenes rendered and measured at once; what is measured does not depend on it."""
    ablation_scenes: int = 20
    """Scenes of each row of the ablations, which use two instructions; 0 = no ablations."""
    pictures: Path | None = None
    """Folder for contact sheets of the first scenes; None = none."""
    ip2p: IP2PConfig = field(default_factory=IP2PConfig)
    foi: FoIConfig = field(default_factory=FoIConfig)

    def __post_init__(self) -> None:
        for name, least in (("scenes", 1), ("batch", 1), ("ablation_scenes", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


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


Progress = Callable[[str, int, int], None]
"""Receives what is being measured, pictures done and pictures in all."""


def run_foi_bench(
    backbone: Backbone, config: FoIBenchConfig | None = None, *, progress: Progress = lambda *_: None
) -> Document:
    """Measure everything; see the module for the metrics."""
    config = config or FoIBenchConfig()
    methods: dict[str, EditorConfig | None] = {"unedited": None, "ip2p": config.ip2p, "foi": config.foi}
    rows: list[Row] = []
    for name, count in (("one", 1), ("two", 2)):
        pairs = held_out_pairs(config.scenes, count, backbone.native_size, config.batch)
        outcomes: dict[str, list[Outcome]] = {}
        for method, editor in methods.items():
            outcomes[method] = _edit_all(pairs, editor, backbone, f"{method}, {name} instruction(s)", progress)
            values = _measure_all(pairs, outcomes[method], backbone)
            rows.append(_summarise(method, name, values))
            if count == 1:
                kinds = sorted({v["kind"] for v in values}, key=str)
                rows += [_summarise(method, f"one/{k}", [v for v in values if v["kind"] == k]) for k in kinds]
        if config.pictures is not None:
            _contact_sheet(pairs[0], {m: o[0] for m, o in outcomes.items()}, config.pictures / f"foi_{name}.png")
    rows += run_ablations(backbone, config, progress=progress)
    return make_document("foi", rows, backbone.device, model=backbone.name)


def run_ablations(backbone: Backbone, config: FoIBenchConfig, *, progress: Progress = lambda *_: None) -> list[Row]:
    """FoI's Tables 3-5: when masks are read, when modulation stops, when disentangling stops (shares of the steps)."""
    if not config.ablation_scenes:
        return []
    pairs = held_out_pairs(config.ablation_scenes, 2, backbone.native_size, config.batch)
    shares = {
        "extract_at": (0.0, 0.25, 0.5, 0.75, 0.95),
        "modulation_end": (0.05, 0.25, 0.5, 0.75, 1.0),
        "disentangle_end": (0.05, 0.25, 0.5, 0.75, 1.0),
    }
    rows: list[Row] = []
    known: dict[FoIConfig, Row] = {}
    for option, values in shares.items():
        for value in values:
            # Running the first step again makes no sense where masks are read later.
            rerun = config.foi.rerun_first_step and option != "extract_at"
            editor = replace(config.foi, **{option: value, "rerun_first_step": rerun})
            if editor not in known:
                outcomes = _edit_all(pairs, editor, backbone, f"ablation {option}={value:g}", progress)
                known[editor] = _summarise("foi", "", _measure_all(pairs, outcomes, backbone))
            rows.append({**known[editor], "set": f"two, {option}={value:g}"})
    return rows


def held_out_pairs(scenes: int, instructions: int, size: int, batch: int) -> list[EditPairs]:
    """Held-out pairs in batches."""
    starts = range(0, scenes, batch)
    return [make_pairs("test", range(at, min(at + batch, scenes)), edits=instructions, height=size) for at in starts]


def request_from_pairs(pairs: EditPairs, row: int, *, seed: int, device: torch.device) -> EditRequest:
    """The request of one pair; instructions differ from pair to pair, so each is its own request."""
    edits = pairs.specs[row].edits
    return EditRequest(
        image=pairs.source[row : row + 1].to(device),
        instructions=tuple(Instruction(text=edit.text, keyword=edit.keyword) for edit in edits),
        seeds=(seed,),
    )


def _edit_all(
    pairs: Sequence[EditPairs], config: EditorConfig | None, backbone: Backbone, label: str, progress: Progress
) -> list[Outcome]:
    total = sum(len(p.specs) for p in pairs)
    done = 0
    outcomes: list[Outcome] = []
    for batch in pairs:
        if config is None:
            outcomes.append(Outcome(raw=batch.source, kept=batch.source, mask=None, seconds=0.0, coded=False))
        else:
            numbers = range(done, done + len(batch.specs))
            outcomes.append(_edit_batch(batch, config, backbone, numbers, lambda n: progress(label, n, total)))
        done += len(batch.specs)
    return outcomes


def _edit_batch(
    pairs: EditPairs, config: EditorConfig, backbone: Backbone, numbers: range, report: Callable[[int], None]
) -> Outcome:
    """Edit each picture with its own instructions; the seed is the number of its scene, whatever the batch."""
    untouched = _round_trip(pairs, backbone)
    editor = make_editor(replace(config, keep_outside="paper"), backbone)
    images, masks, refused = list(untouched.split(1)), list(torch.zeros_like(untouched[:, :1]).split(1)), set[int]()
    start = time.perf_counter()
    for row, number in enumerate(numbers):
        try:
            result = editor.edit(request_from_pairs(pairs, row, seed=number, device=backbone.device))
            images[row], masks[row] = result.image.cpu(), result.mask.cpu()
        except NothingFoundError:
            refused.add(row)
        report(number + 1)
    seconds = (time.perf_counter() - start) / len(pairs.specs)
    raw, mask = torch.cat(images), torch.cat(masks)
    return Outcome(
        raw=raw,
        kept=composite(raw, pairs.source, mask),
        mask=None if isinstance(config, IP2PConfig) else mask,
        seconds=seconds,
        refused=frozenset(refused),
    )


def _round_trip(pairs: EditPairs, backbone: Backbone) -> Float[Tensor, "batch 3 height width"]:
    """The sources after encoding and decoding: what an editor gives back that changes nothing."""

    def one(rows: slice) -> Tensor:
        latents = backbone.encode(pairs.source[rows].to(backbone.device))
        return backbone.decode(backbone.scale_latents(latents)).cpu()

    return torch.cat(in_chunks(one, len(pairs.source), chunk=_CODED_AT_ONCE))


def _measure_all(pairs: Sequence[EditPairs], outcomes: Sequence[Outcome], backbone: Backbone) -> list[Row]:
    return [
        value
        for batch, outcome in zip(pairs, outcomes, strict=True)
        for value in measure_outcome(batch, outcome, backbone)
    ]


def measure_outcome(pairs: EditPairs, outcome: Outcome, backbone: Backbone) -> list[Row]:
    """The metrics of every picture of a batch."""
    untouched = _round_trip(pairs, backbone) if outcome.coded else pairs.source
    error = _squared(outcome.raw, pairs.target)
    unedited = _squared(pairs.source, pairs.target)
    over = _squared(outcome.raw, untouched)
    truth = _squared(outcome.kept, pairs.target)
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
                "psnr_inside": _psnr(_mean(error[i], changed)),
                "psnr_outside": math.nan if refused else _psnr(_mean(over[i], ~changed)),
                "psnr_truth": _psnr(float(truth[i].mean())),
                "followed": sum(followed) / len(followed) if followed else math.nan,
                "refused": float(refused),
                "seconds": outcome.seconds,
            }
        )
    return rows


def _summarise(method: str, name: str, values: Sequence[Row]) -> Row:
    """Means over pictures; infinite and undefined values are left out of a mean and a metric without any is null."""
    row: Row = {"method": method, "set": name, "pictures": len(values)}
    for metric in METRICS:
        numbers = [value for v in values if isinstance(value := v[metric], float) and math.isfinite(value)]
        row[metric] = sum(numbers) / len(numbers) if numbers else None
    return row


def _near(mask: Bool[Tensor, "height width"]) -> Bool[Tensor, "1 height width"]:
    """A silhouette with the pixels around it, where its shadow changes."""
    return dilate_mask(mask[None, None].float(), _EDGE_PIXELS)[0] > 0


def _squared(
    image: Float[Tensor, "batch 3 height width"], reference: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 1 height width"]:
    return (image - reference).pow(2).mean(1, keepdim=True)


def _mean(error: Float[Tensor, "1 height width"], region: Bool[Tensor, "1 height width"]) -> float:
    return float(error[region].mean()) if bool(region.any()) else math.nan


def _psnr(error: float) -> float:
    return -10 * math.log10(error) if error > 0 else math.inf


def _iou(mask: Bool[Tensor, "1 height width"], truth: Bool[Tensor, "1 height width"]) -> float:
    return float((mask & truth).sum()) / max(1.0, float((mask | truth).sum()))


def _contact_sheet(pairs: EditPairs, outcomes: dict[str, Outcome], path: Path, *, rows: int = 12) -> None:
    """A row per scene: source, truth, ip2p, FoI's mask, FoI as the model gives it, FoI with the outside kept."""
    ip2p, foi = outcomes["ip2p"], outcomes["foi"]
    assert foi.mask is not None, "FoI always has a mask"
    columns = [pairs.source, pairs.target, ip2p.raw, overlay_mask(pairs.source, foi.mask), foi.raw, foi.kept]
    size = 2 * pairs.source.shape[-1]
    sheet = [
        torch.cat([resize_image(column[i : i + 1], size, size) for column in columns], -1)
        for i in range(min(rows, len(pairs.specs)))
    ]
    save_image(torch.cat(sheet, -2), path)
