"""FoI against InstructPix2Pix and doing nothing, on held-out blocks scenes with exact truth.

Metrics, each the mean over pictures of a value per picture:

- `mask_iou`: the union mask at 0.5 against the silhouettes of the edited blocks before and after.
- `psnr_inside` (dB): the model's own picture against the truly edited one, where the truth differs from the source.
- `psnr_outside` (dB): the model's own picture (`keep_outside="paper"`) against the autoencoder's round trip of the
  source, where the truth equals the source; the codec's blur thus hides no over-editing.
- `psnr_truth` (dB): the whole picture as a user gets it (`keep_outside="exact"`) against the truth.
- `followed`: share of edits whose squared error inside is under a quarter of the unedited picture's.
- `seconds`: per picture.
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
    composite,
    dilate_mask,
    make_editor,
    overlay_mask,
    resize_image,
    save_image,
)
from .blocks.pairs import EditPairs, make_pairs
from .table import Document, Row, make_document

FOLLOWED_SHARE = 0.25
_EDGE_PIXELS = 2


@dataclass(frozen=True, kw_only=True)
class FoIBenchConfig:
    """What to measure."""

    scenes: int = 200
    """Held-out scenes per set."""
    batch: int = 25
    """Pictures edited at once."""
    ablation_scenes: int = 40
    """Scenes of each row of the ablations, which use two instructions; 0 = no ablations."""
    pictures: Path | None = None
    """Folder for contact sheets of the first scenes; None = none."""
    ip2p: IP2PConfig = field(default_factory=IP2PConfig)
    foi: FoIConfig = field(default_factory=FoIConfig)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method made of a batch of pairs."""

    raw: Float[Tensor, "batch 3 height width"]
    """The model's own pictures."""
    kept: Float[Tensor, "batch 3 height width"]
    """With what is outside the mask put back."""
    mask: Float[Tensor, "batch 1 height width"] | None
    seconds: float


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
            editor = replace(config.foi, **{option: value})
            if editor not in known:
                outcomes = _edit_all(pairs, editor, backbone, f"ablation {option}={value:g}", progress)
                known[editor] = _summarise("foi", "", _measure_all(pairs, outcomes, backbone))
            rows.append({**known[editor], "set": f"two, {option}={value:g}"})
    return rows


def held_out_pairs(scenes: int, instructions: int, size: int, batch: int) -> list[EditPairs]:
    """Held-out pairs in batches."""
    starts = range(0, scenes, batch)
    return [
        make_pairs("test", range(at, min(at + batch, scenes)), edits=instructions, height=size) for at in starts
    ]


def request_from_pairs(pairs: EditPairs, row: int, device: torch.device) -> EditRequest:
    """The request of one pair; instructions differ from pair to pair, so each is its own request."""
    edits = pairs.specs[row].edits
    return EditRequest(
        image=pairs.source[row : row + 1].to(device),
        instructions=tuple(Instruction(text=edit.text, keyword=edit.keyword) for edit in edits),
        seeds=(row,),
    )


def _edit_all(
    pairs: Sequence[EditPairs], config: EditorConfig | None, backbone: Backbone, label: str, progress: Progress
) -> list[Outcome]:
    total = sum(len(p.specs) for p in pairs)
    done = 0
    outcomes: list[Outcome] = []
    for batch in pairs:
        start = time.perf_counter()
        if config is None:
            outcomes.append(Outcome(raw=batch.source, kept=batch.source, mask=None, seconds=0.0))
        else:
            editor = make_editor(replace(config, keep_outside="paper"), backbone)
            results = []
            for row in range(len(batch.specs)):
                results.append(editor.edit(request_from_pairs(batch, row, backbone.device)))
                progress(label, done + row + 1, total)
            raw, mask = torch.cat([r.image for r in results]).cpu(), torch.cat([r.mask for r in results]).cpu()
            outcomes.append(
                Outcome(
                    raw=raw,
                    kept=composite(raw, batch.source, mask),
                    mask=None if isinstance(config, IP2PConfig) else mask,
                    seconds=(time.perf_counter() - start) / len(batch.specs),
                )
            )
        done += len(batch.specs)
    return outcomes


def _measure_all(pairs: Sequence[EditPairs], outcomes: Sequence[Outcome], backbone: Backbone) -> list[Row]:
    return [
        value
        for batch, outcome in zip(pairs, outcomes, strict=True)
        for value in measure_outcome(batch, outcome, backbone)
    ]


def measure_outcome(pairs: EditPairs, outcome: Outcome, backbone: Backbone) -> list[Row]:
    """The metrics of every picture of a batch."""
    source = pairs.source.to(backbone.device)
    round_trip = backbone.decode(backbone.scale_latents(backbone.encode(source))).cpu()
    error = _squared(outcome.raw, pairs.target)
    unedited = _squared(pairs.source, pairs.target)
    over = _squared(outcome.raw, round_trip if outcome.mask is not None or outcome.seconds else pairs.source)
    truth = _squared(outcome.kept, pairs.target)
    rows: list[Row] = []
    for i, spec in enumerate(pairs.specs):
        changed = pairs.changed[i]
        regions = [changed & _near(mask) for mask in pairs.masks[i]]
        followed = [_mean(error[i], r) < FOLLOWED_SHARE * _mean(unedited[i], r) for r in regions]
        rows.append(
            {
                "kind": spec.edits[0].kind,
                "mask_iou": math.nan if outcome.mask is None else _iou(outcome.mask[i] >= 0.5, pairs.mask[i]),
                "psnr_inside": _psnr(_mean(error[i], changed)),
                "psnr_outside": _psnr(_mean(over[i], ~changed)),
                "psnr_truth": _psnr(float(truth[i].mean())),
                "followed": sum(followed) / len(followed),
                "seconds": outcome.seconds,
            }
        )
    return rows


def _summarise(method: str, name: str, values: Sequence[Row]) -> Row:
    """Means over pictures; infinite and undefined values are left out of a mean and a metric without any is null."""
    row: Row = {"method": method, "set": name, "pictures": len(values)}
    for metric in ("mask_iou", "psnr_inside", "psnr_outside", "psnr_truth", "followed", "seconds"):
        finite = [float(v[metric] or 0.0) for v in values if math.isfinite(float(v[metric] or 0.0))]
        row[metric] = sum(finite) / len(finite) if finite else None
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
    assert foi.mask is not None  # noqa: S101  FoI always has a mask.
    columns = [pairs.source, pairs.target, ip2p.raw, overlay_mask(pairs.source, foi.mask), foi.raw, foi.kept]
    size = 2 * pairs.source.shape[-1]
    sheet = [torch.cat([resize_image(column[i : i + 1], size, size) for column in columns], -1)
             for i in range(min(rows, len(pairs.specs)))]
    save_image(torch.cat(sheet, -2), path)
