"""InstructBrush's tables (arXiv 2403.18660, section 5) on edits whose truth is known exactly.

Each edit is learned from ten pairs, and from one, and applied to pictures that were held out. The edits are those of
`brush_edits.py`, four of the whole picture and four of blocks of one shape, or a folder in the layout of TOP-Bench.
The methods are those of `brush_methods.py`, the metrics those of `brush_scores.py`; beside them

- `seconds_step`: of learning, the median over slices of a run; `seconds_sample`: the same by the noisy pictures of a
  step, each of which is one gradient: a step of InstructBrush learns all five parts of the noise range at once.
- `seconds_edit`: per picture held out, all of an edit at once. On a CPU all three are the process's own seconds, which
  do not depend on what else runs there.
- `peak_mib`: most memory while learning, of the device or, on a CPU, of the process; `brush_mib`: the learned file.

As in the paper, ablations learn from the larger number of pairs alone. What was done is kept in `--out`: a run that
was killed goes on, and a table is made anew from the pictures that are there. Beside the runs lie, for each edit, its
pairs as a folder of TOP-Bench's layout and strips `before | truth | each method`, in the order of `--methods`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from ..editors import Backbone, ClipScorer, load_clip
from .blocks import Split
from .brush_methods import ABLATIONS, LEARNED, BrushMethod, LearnConfig
from .brush_runs import MethodRun, MethodRunner
from .brush_scores import load_perceptual, score_edit, summarise_edits
from .brush_sets import BrushSet, blocks_sets, read_top_bench
from .outcome import Progress, save_sheet
from .table import Document, Row, make_document, write_json

METHODS: tuple[BrushMethod, ...] = get_args(BrushMethod)


@dataclass(frozen=True, kw_only=True)
class BrushBenchConfig(LearnConfig):
    """What to measure, and how brushes are learned."""

    out: Path = Path("outputs/brush_bench")
    """Folder of brushes, pictures and figures; a run with the same settings goes on in it."""
    edits: tuple[str, ...] = ()
    """Edits by name; none = all."""
    methods: tuple[BrushMethod, ...] = METHODS
    """Methods, in the order of the strips."""
    shots: tuple[int, ...] = (10, 1)
    """Numbers of pairs to learn from, each at least 1; ablations take the largest."""
    pairs: int = 10
    """Pairs of an edit of the blocks world to learn from, at least as many as `shots`; the next ones are held out."""
    test_pairs: int = 5
    """Pairs of an edit of the blocks world held out, at least 1."""
    split: Split = "test"
    """Where scenes are from: `validation` to choose settings, `test` for figures."""
    top_bench: Path | None = None
    """Folder in TOP-Bench's layout to measure in place of the blocks world; None = the blocks world."""
    size: int | None = None
    """Longest side in pixels, at least 32; None = the checkpoint's own."""
    sampling_steps: int | None = None
    """Steps of an edit, at least 1; None = the checkpoint's own."""
    clip: str | None = None
    """CLIP that finds initial texts and tells Visii where an edit leads: `embedded`, a folder or a hub id; None = none:
    InstructBrush begins with the empty text."""
    judge: str | None = None
    """CLIP that measures directions; None = that of --clip, and without one `direct` is left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.methods:
            raise ValueError("methods must name at least one, got none")
        if not self.shots or min(self.shots) < 1:
            raise ValueError(f"shots must each be at least 1, got {self.shots}")
        if self.pairs < max(self.shots):
            raise ValueError(f"pairs must be at least {max(self.shots)}, the largest of shots, got {self.pairs}")
        if self.test_pairs < 1:
            raise ValueError(f"test_pairs must be at least 1, got {self.test_pairs}")
        for name, least in (("size", 32), ("sampling_steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """The figures of one method on one edit."""

    edit: BrushSet
    method: BrushMethod
    shots: int | None
    """None where nothing is learned."""
    row: Row


def run_brush_bench(
    backbone: Backbone, config: BrushBenchConfig | None = None, *, progress: Progress = lambda *_: None
) -> Document:
    """Measure everything, edit by edit; figures so far are in `out` after each.

    Raises:
        InputError: if an edit or a pair is not there, or the folder cannot be written.
    """
    config = config or BrushBenchConfig()
    backbone.require("instruct-pix2pix", "the bench of brushes")
    clip, judge = (None if name is None else _load_clip(backbone, name) for name in (config.clip, config.judge))
    runner = MethodRunner(
        backbone, config, config.out, size=config.size, sampling_steps=config.sampling_steps, clip=clip
    )
    perceptual = load_perceptual(backbone.device)
    scored: list[_Scored] = []
    document: Document = {}
    for edit in choose_sets(backbone, config):
        edit.save(config.out / "pairs")
        runs = _run_methods(runner, edit, config, progress)
        for (method, shots), run in runs.items():
            learned = edit.shots(shots or max(config.shots))
            figures = score_edit(run.edited, edit.test, learned, perceptual=perceptual, encoder=judge or clip)
            scored.append(_Scored(edit=edit, method=method, shots=shots, row={**figures, **run.costs}))
        _save_strips(edit, runs, config)
        document = _report(scored, backbone, config)
        write_json(document, config.out / "figures.json")
    return document


def _load_clip(backbone: Backbone, name: str) -> ClipScorer:
    origin = backbone.origin
    return load_clip(name, device=backbone.device, model_dir=origin.model_dir, offline=origin.offline)


def choose_sets(backbone: Backbone, config: BrushBenchConfig) -> tuple[BrushSet, ...]:
    """The edits to measure.

    Raises:
        InputError: if one is not there or has too few pairs.
    """
    size = config.size or backbone.native_size
    if config.top_bench is None:
        return blocks_sets(config.edits, train=config.pairs, test=config.test_pairs, split=config.split, height=size)
    sets = read_top_bench(config.top_bench, config.edits, size=size, multiple=backbone.vae_scale_factor)
    for edit in sets:
        # What is asked in vain is told before hours of learning, not after them.
        edit.shots(max(config.shots))
    return sets


def _run_methods(
    runner: MethodRunner, edit: BrushSet, config: BrushBenchConfig, progress: Progress
) -> dict[tuple[BrushMethod, int | None], MethodRun]:
    """Every method with every number of pairs that it is measured with."""
    most = max(config.shots)
    runs: dict[tuple[BrushMethod, int | None], MethodRun] = {}
    for method in config.methods:
        if method not in LEARNED:
            runs[method, None] = runner.run(method, edit, most)
            continue
        for shots in config.shots if method not in ABLATIONS else (most,):
            label = f"{edit.name}, {method}, {shots} pair{'s' * (shots != 1)}"
            runs[method, shots] = runner.run(
                method, edit, shots, lambda done, total, label=label: progress(label, done, total)
            )
    return runs


def _save_strips(
    edit: BrushSet, runs: Mapping[tuple[BrushMethod, int | None], MethodRun], config: BrushBenchConfig
) -> None:
    """A strip for each number of pairs: before, the truth, and what every method made of it."""
    for shots in config.shots:
        shown = [run.edited for (_, own), run in runs.items() if own in (None, shots)]
        save_sheet([edit.test.before, edit.test.after, *shown], config.out / edit.name / f"strips_{shots}.png")


def _report(scored: Sequence[_Scored], backbone: Backbone, config: BrushBenchConfig) -> Document:
    """Means over the global, the local and all edits so far, and the figures of every edit."""
    runs = sorted(dict.fromkeys((each.shots, each.method) for each in scored), key=lambda run: -(run[0] or math.inf))
    rows: list[Row] = []
    for name in ("all", "global", "local"):
        own = [each for each in scored if name in ("all", each.edit.scope)]
        for shots, method in runs if own else ():
            found = [each.row for each in own if (each.shots, each.method) == (shots, method)]
            rows.append(summarise_edits(method, shots, name, found))
    single: list[Row] = [
        {"edit": s.edit.name, "scope": s.edit.scope, "method": s.method, "shots": s.shots, **s.row} for s in scored
    ]
    names = ("steps", "learning_rate", "embedding_rate", "clip", "judge", "split")
    settings = {name: getattr(config, name) for name in names}
    return make_document("brush", rows, backbone.device, model=backbone.name, settings=settings, by_edit=single)
