"""FoI against InstructPix2Pix and doing nothing, on held-out blocks scenes; the metrics are those of `outcome.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..editors import Backbone, EditorConfig, FoIConfig, IP2PConfig, make_editor, overlay_mask
from .blocks.pairs import EditPairs, make_pairs
from .outcome import Outcome, Progress, edit_all, measure_all, request_from_pairs, save_sheet, summarise
from .table import Document, Row, make_document


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


def run_foi_bench(
    backbone: Backbone, config: FoIBenchConfig | None = None, *, progress: Progress = lambda *_: None
) -> Document:
    """Measure everything."""
    config = config or FoIBenchConfig()
    methods: dict[str, EditorConfig | None] = {"unedited": None, "ip2p": config.ip2p, "foi": config.foi}
    rows: list[Row] = []
    for name, count in (("one", 1), ("two", 2)):
        pairs = held_out_pairs(config.scenes, count, backbone.native_size, config.batch)
        outcomes: dict[str, list[Outcome]] = {}
        for method, editor in methods.items():
            outcomes[method] = _edit_all(pairs, editor, backbone, f"{method}, {name} instruction(s)", progress)
            values = measure_all(pairs, outcomes[method], backbone)
            rows.append(summarise(method, name, values))
            if count == 1:
                kinds = sorted({v["kind"] for v in values}, key=str)
                rows += [summarise(method, f"one/{k}", [v for v in values if v["kind"] == k]) for k in kinds]
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
                known[editor] = summarise("foi", "", measure_all(pairs, outcomes, backbone))
            rows.append({**known[editor], "set": f"two, {option}={value:g}"})
    return rows


def held_out_pairs(scenes: int, instructions: int, size: int, batch: int) -> list[EditPairs]:
    """Held-out pairs in batches."""
    starts = range(0, scenes, batch)
    return [make_pairs("test", range(at, min(at + batch, scenes)), edits=instructions, height=size) for at in starts]


def _edit_all(
    pairs: Sequence[EditPairs], config: EditorConfig | None, backbone: Backbone, label: str, progress: Progress
) -> list[Outcome]:
    return edit_all(
        pairs,
        None if config is None else make_editor(replace(config, keep_outside="paper"), backbone),
        backbone,
        lambda batch, row, seed: request_from_pairs(batch, row, seed=seed, device=backbone.device),
        has_mask=not isinstance(config, IP2PConfig),
        report=lambda done, total: progress(label, done, total),
    )


def _contact_sheet(pairs: EditPairs, outcomes: dict[str, Outcome], path: Path) -> None:
    """A row per scene: source, truth, ip2p, FoI's mask, FoI as the model gives it, FoI with the outside kept."""
    ip2p, foi = outcomes["ip2p"], outcomes["foi"]
    assert foi.mask is not None, "FoI always has a mask"
    columns = [pairs.source, pairs.target, ip2p.raw, overlay_mask(pairs.source, foi.mask), foi.raw, foi.kept]
    save_sheet(columns, path)
