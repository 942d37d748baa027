"""InstructEdit's Table 1 and Figures 3 and 7 (arXiv 2305.18047) on held-out blocks scenes with exact truth.

Every scene has two or three blocks of one colour and shape, and the instruction names one of them by its side or its
size ("make the left red cube blue"), as the paper's do that DiffEdit cannot localise. The metrics are those of
`outcome.py`; the paper's own (BRISQUE, LPIPS, CLIP score and direction) need networks that are no part of this project.
There is a row for each of these methods:

- `unedited`, and `ip2p` on the instruction itself.
- `mdp`, `diffedit-THRESHOLD`, `instructedit`, `inpaint`: on the phrase and captions the language processor makes of the
  instruction, which name one block.
- `mdp/true-captions`, `diffedit-THRESHOLD/true-captions`: on captions of the whole scene before and after, which name
  every block. The paper writes captions for these two by hand, so each counts for what its better row says.
- `instructedit-true`: InstructEdit with the true mask in place of the segmenter's, the most its editor can reach.

Sets: `twins`, the kinds of edit of the standard sets, `add` among them (InstructEdit's mask is then the block that
something is put on), and each kind by itself; `first N`, those scenes at each encoding ratio. `inversion` rows have
`psnr_inversion` (dB): latents inverted and denoised again under their own full captions, without guidance, against
themselves; the peak is the range of each picture's latents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from ..editors import (
    EDITORS,
    Backbone,
    BackboneConfig,
    Captions,
    CheckpointKind,
    DiffEditConfig,
    EditorConfig,
    EditorName,
    EditRequest,
    InpaintConfig,
    InstructEditConfig,
    IP2PConfig,
    MDPConfig,
    TextGuidance,
    caption_schedule,
    invert,
    make_editor,
    name_of,
    overlay_mask,
    sample,
)
from .blocks.pairs import EditPairs, make_pairs
from .outcome import (
    Outcome,
    Progress,
    RequestMaker,
    edit_all,
    measure_all,
    psnr,
    request_from_pairs,
    save_sheet,
    summarise,
)
from .table import Document, Row, make_document

RATIOS = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
INVERSION_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_BY_KIND = ("unedited", "instructedit", "instructedit-true")
"""Rows that are also told by kind of edit."""


@dataclass(frozen=True, kw_only=True)
class InstructEditBenchConfig:
    """What to measure."""

    scenes: int = 200
    """Scenes in all, at least 1."""
    split: Literal["test", "validation"] = "test"
    """Where they are from: `validation` to choose settings, `test` for figures."""
    batch: int = 25
    """Scenes rendered and measured at once; what is measured does not depend on it."""
    editors: tuple[EditorName, ...] = ("mdp", "ip2p", "diffedit", "instructedit", "inpaint")
    """Editors to measure; leave out those whose checkpoint is not there."""
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7)
    """Mask thresholds of DiffEdit, each in (0, 1]."""
    ratio_scenes: int = 40
    """Scenes edited by InstructEdit at every encoding ratio, no more than `scenes`; 0 = none."""
    inversion_scenes: int = 16
    """Scenes inverted and denoised again at every encoding ratio; 0 = none."""
    inversion_steps: int = 50
    """DDIM steps of these over the whole noise range, at least 10."""
    pictures: Path | None = None
    """Folder for contact sheets of the first scenes; None = none."""
    ip2p: IP2PConfig = field(default_factory=IP2PConfig)
    mdp: MDPConfig = field(default_factory=MDPConfig)
    diffedit: DiffEditConfig = field(default_factory=DiffEditConfig)
    instructedit: InstructEditConfig = field(default_factory=InstructEditConfig)
    inpaint: InpaintConfig = field(default_factory=InpaintConfig)

    def __post_init__(self) -> None:
        bounds = {"scenes": 1, "batch": 1, "ratio_scenes": 0, "inversion_scenes": 0, "inversion_steps": 10}
        for name, least in bounds.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.editors or "foi" in self.editors:
            raise ValueError(f"editors must be some of mdp, ip2p, diffedit, instructedit, inpaint, got {self.editors}")
        if not all(0 < threshold <= 1 for threshold in self.thresholds):
            raise ValueError(f"thresholds must be in (0, 1], got {self.thresholds}")
        steps = self.instructedit.steps
        if self.ratio_scenes and steps is not None and steps * min(RATIOS) < 1:
            raise ValueError(f"instructedit.steps must be at least {1 / min(RATIOS):.0f} for all ratios, got {steps}")


@dataclass(frozen=True, kw_only=True)
class _Method:
    """A row of the table."""

    name: str
    config: EditorConfig | None
    """None = leave the pictures as they are."""
    has_true_captions: bool = False
    has_true_mask: bool = False


def run_instructedit_bench(
    checkpoint: BackboneConfig,
    config: InstructEditBenchConfig | None = None,
    *,
    progress: Progress = lambda *_: None,
) -> Document:
    """Measure everything.

    Args:
        checkpoint: names a set of checkpoints, of which those of the kinds that the editors need are loaded.
        config: what to measure.
        progress: told how far it is.

    Raises:
        ModelError: if a checkpoint is missing.
    """
    config = config or InstructEditBenchConfig()
    kinds: list[CheckpointKind] = [EDITORS[name].kind for name in config.editors]
    backbones: dict[CheckpointKind, Backbone] = {kind: Backbone.load(checkpoint, kind) for kind in dict.fromkeys(kinds)}
    size = max(backbone.native_size for backbone in backbones.values())
    pairs = twin_pairs(config.split, config.scenes, size, config.batch)
    outcomes: dict[str, list[Outcome]] = {}
    values: dict[str, list[Row]] = {}
    for method in _list_methods(config):
        backbone = _backbone_of(method, backbones)
        outcomes[method.name] = _run(method, pairs, backbone, method.name, progress)
        values[method.name] = measure_all(pairs, outcomes[method.name], backbone)
    rows = [summarise(name, "twins", own) for name, own in values.items()]
    rows += [row for name in _BY_KIND for row in _split_by_kind(name, values.get(name, []))]
    by_ratio: list[Outcome] = []
    if "instructedit" in config.editors:
        backbone, count = backbones["text-to-image"], min(config.ratio_scenes, config.scenes)
        swept = _sweep_ratios(config, size, backbone, progress)
        by_ratio = [outcome for _, outcome in swept]
        rows += [row for row, _ in swept]
        if count and "inpaint" in values:
            rows.append(summarise("inpaint", f"first {count}", values["inpaint"][:count]))
        rows += _measure_inversion(config, size, backbone, progress)
    _save_sheets(pairs[0], {name: own[0] for name, own in outcomes.items()}, by_ratio, config)
    return make_document("instructedit", rows, next(iter(backbones.values())).device, model=checkpoint.model)


def twin_pairs(split: Literal["test", "validation"], scenes: int, size: int, batch: int) -> list[EditPairs]:
    """Scenes with blocks of one colour and shape and one instruction each, in batches."""
    return [
        make_pairs(split, range(at, min(at + batch, scenes)), height=size, twins=True, references={"twin": 1.0})
        for at in range(0, scenes, batch)
    ]


def _list_methods(config: InstructEditBenchConfig) -> list[_Method]:
    methods = [_Method(name="unedited", config=None)]
    own: dict[EditorName, list[_Method]] = {
        "mdp": _with_either_captions("mdp", config.mdp),
        "ip2p": [_Method(name="ip2p", config=config.ip2p)],
        "diffedit": [
            method
            for threshold in config.thresholds
            for method in _with_either_captions(
                f"diffedit-{threshold:g}", replace(config.diffedit, mask_threshold=threshold)
            )
        ],
        "instructedit": [
            _Method(name="instructedit", config=config.instructedit),
            _Method(name="instructedit-true", config=config.instructedit, has_true_mask=True),
        ],
        "inpaint": [_Method(name="inpaint", config=config.inpaint)],
    }
    return methods + [method for name, some in own.items() if name in config.editors for method in some]


def _with_either_captions(name: str, config: EditorConfig) -> list[_Method]:
    return [
        _Method(name=name, config=config),
        _Method(name=f"{name}/true-captions", config=config, has_true_captions=True),
    ]


def _backbone_of(method: _Method, backbones: Mapping[CheckpointKind, Backbone]) -> Backbone:
    if method.config is None:
        return next(iter(backbones.values()))
    return backbones[EDITORS[name_of(method.config)].kind]


def _run(
    method: _Method, pairs: Sequence[EditPairs], backbone: Backbone, label: str, progress: Progress
) -> list[Outcome]:
    return edit_all(
        pairs,
        None if method.config is None else make_editor(replace(method.config, keep_outside="paper"), backbone),
        backbone,
        _request_maker(method, backbone),
        has_mask=method.config is not None and EDITORS[name_of(method.config)].has_mask,
        report=lambda done, total: progress(label, done, total),
    )


def _request_maker(method: _Method, backbone: Backbone) -> RequestMaker:
    def make(pairs: EditPairs, row: int, seed: int) -> EditRequest:
        request = request_from_pairs(pairs, row, seed=seed, device=backbone.device)
        spec, mask = pairs.specs[row], pairs.mask[row : row + 1].float().to(backbone.device)
        truth = Captions(source=spec.scene.caption, target=spec.edited.caption)
        return replace(
            request,
            captions=(truth,) if method.has_true_captions else (),
            mask=mask if method.has_true_mask else None,
        )

    return make


def _split_by_kind(method: str, values: Sequence[Row]) -> list[Row]:
    kinds = sorted({str(value["kind"]) for value in values})
    return [summarise(method, f"twins/{kind}", [v for v in values if v["kind"] == kind]) for kind in kinds]


def _sweep_ratios(
    config: InstructEditBenchConfig, size: int, backbone: Backbone, progress: Progress
) -> list[tuple[Row, Outcome]]:
    """InstructEdit at each encoding ratio (Fig. 7): its row, and what it made of the first batch."""
    count = min(config.ratio_scenes, config.scenes)
    pairs = twin_pairs(config.split, count, size, config.batch)
    found: list[tuple[Row, Outcome]] = []
    for ratio in RATIOS if count else ():
        name = f"encoding_ratio={ratio:g}"
        method = _Method(name="instructedit", config=replace(config.instructedit, encoding_ratio=ratio))
        outcomes = _run(method, pairs, backbone, f"instructedit, {name}", progress)
        row = summarise("instructedit", f"first {count}, {name}", measure_all(pairs, outcomes, backbone))
        found.append((row, outcomes[0]))
    return found


@torch.no_grad()
def _measure_inversion(config: InstructEditBenchConfig, size: int, backbone: Backbone, progress: Progress) -> list[Row]:
    """How much of a picture's latents an inversion and an unguided denoising under one caption lose, at each ratio."""
    count = config.inversion_scenes
    pairs = twin_pairs(config.split, count, size, config.batch)
    guidance = TextGuidance(guidance_scale=1.0)
    rows: list[Row] = []
    for place, ratio in enumerate(INVERSION_RATIOS if count else ()):
        schedule = caption_schedule(backbone, config.inversion_steps, ratio=ratio)
        found: list[float] = []
        for batch in pairs:
            clean = backbone.scale_latents(backbone.encode(batch.source.to(backbone.device)))
            texts = backbone.embed([spec.scene.caption for spec in batch.specs])
            run = {"guidance": guidance, "conditioning": backbone.condition(("text",), texts), "schedule": schedule}
            path = invert(backbone, clean, **run)
            error = (sample(backbone, path[-1], generators=(), **run) - clean).pow(2).mean((1, 2, 3))
            peak = clean.amax((1, 2, 3)) - clean.amin((1, 2, 3))
            found += [psnr(value) for value in (error / peak**2).tolist()]
        name = f"first {count}, encoding_ratio={ratio:g}"
        rows.append({"method": "inversion", "set": name, "pictures": count, "psnr_inversion": sum(found) / count})
        progress("inversion", place + 1, len(INVERSION_RATIOS))
    return rows


def _save_sheets(
    pairs: EditPairs, outcomes: Mapping[str, Outcome], ratios: Sequence[Outcome], config: InstructEditBenchConfig
) -> None:
    """A row per scene, each beginning with source and truth.

    `masks` (Fig. 3): masks of DiffEdit and InstructEdit, then what came of them; `methods`: the other rows of the table
    in their order; `ratios` (Fig. 7): InstructEdit by rising encoding ratio, then inpainting.
    """
    folder = config.pictures
    if folder is None:
        return
    masked = [name for name in (*(f"diffedit-{t:g}" for t in config.thresholds), "instructedit") if name in outcomes]
    masks = [overlay_mask(pairs.source, mask) for name in masked if (mask := outcomes[name].mask) is not None]
    others = [outcome.raw for name, outcome in outcomes.items() if name not in (*masked, "unedited")]
    inpainted = [outcomes["inpaint"].raw] if "inpaint" in outcomes else []
    sheets = {
        "masks": masks + [outcomes[name].raw for name in masked],
        "methods": others,
        "ratios": [outcome.raw for outcome in ratios] + inpainted if ratios else [],
    }
    for name, columns in sheets.items():
        if columns:
            save_sheet([pairs.source, pairs.target, *columns], folder / f"instructedit_{name}.png")
