"""SmartEdit's bench on the blocks world: how well each method did on both sets, against exact truth."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from .blocks import BlockEdit
from .blocks.pairs import EditPairs
from .blocks.reading import ReadingSet, Wording, make_reading_pairs
from .outcome import Outcome, Progress, measure_all, save_sheet, summarise
from .smartedit_methods import Backbones, ReadingMethod
from .smartedit_options import SmartEditBenchConfig
from .smartedit_regions import RegionJudge, mean_regions
from .smartedit_runs import run_pairs
from .table import Row

SetName: TypeAlias = tuple[ReadingSet, Wording]
EMPTIED = "an empty floor"
"""What is to be seen where something was removed."""
_SHOWN = 12


def render_sets(
    config: SmartEditBenchConfig, height: int, progress: Progress = lambda *_: None
) -> dict[SetName, list[EditPairs]]:
    """The pictures of every set in every phrasing, in batches.

    Args:
        config: which, and how many.
        height: side of the square pictures in pixels.
        progress: told how far it is.
    """
    combinations = None if config.combinations == "any" else config.combinations
    sets: dict[SetName, list[EditPairs]] = {}
    for name in config.sets:
        for phrasing in config.phrasings:
            batches = sets.setdefault((name, phrasing), [])
            for at in range(0, config.scenes, config.batch):
                indices = range(at, min(at + config.batch, config.scenes))
                batches.append(
                    make_reading_pairs(
                        config.split, indices, which=name, phrasing=phrasing, combinations=combinations, height=height
                    )
                )
                progress(f"rendering {name}, {phrasing}", indices.stop, config.scenes)
    return sets


def label_of(edit: BlockEdit) -> str:
    """What the region of an edit shows after it, as captions of the blocks world say it."""
    nouns = dict.fromkeys(f"a {block.noun}" for block in edit.new)
    return " and ".join(nouns) or EMPTIED


class PairFigures:
    """The figures of methods, one after the other."""

    def __init__(
        self,
        config: SmartEditBenchConfig,
        sets: Mapping[SetName, Sequence[EditPairs]],
        judge: RegionJudge,
        backbones: Backbones,
        first: ReadingMethod,
    ) -> None:
        """Measure on some sets.

        Args:
            config: where pictures are kept.
            sets: the pictures.
            judge: measures regions.
            backbones: loads checkpoints.
            first: whose checkpoint stands in for that of a method without one.
        """
        self._config, self._sets, self._judge = config, sets, judge
        self._backbones, self._first = backbones, first
        self._rows: list[Row] = []
        self.details: list[Row] = []
        """The same by the way in which the target is named."""
        self._shown: dict[SetName, list[Float[Tensor, "_ 3 _ _"]]] = {name: [] for name in sets}

    @property
    def rows(self) -> list[Row]:
        """One for each set, phrasing and method."""
        order = [(name, phrasing) for name, phrasing in self._sets]
        return sorted(self._rows, key=lambda row: order.index((row["set"], row["phrasing"])))  # pyright: ignore[reportArgumentType]

    def add(self, method: ReadingMethod, progress: Progress = lambda *_: None) -> None:
        """Run a method on every set, or take what is kept of it, and measure it."""
        for (name, phrasing), pairs in self._sets.items():
            folder = self._config.out / f"{name}_{phrasing}"
            outcomes = run_pairs(
                method,
                pairs,
                folder / method.name,
                self._backbones,
                lambda done, total, label=f"{method.name}, {name}, {phrasing}": progress(label, done, total),
            )
            values = self._measure(method, pairs, outcomes)
            self._rows.append(_summarise(method.name, name, phrasing, values))
            specs = [spec for batch in pairs for spec in batch.specs]
            for family in sorted({spec.edits[0].named.family for spec in specs}):
                own = [v for v, spec in zip(values, specs, strict=True) if spec.edits[0].named.family == family]
                self.details.append(_summarise(method.name, f"{name}/{family}", phrasing, own))
            if method.config is not None:
                self._shown[name, phrasing].append(outcomes[0].raw[:_SHOWN])
            sheet = [pairs[0].source, pairs[0].target, *self._shown[name, phrasing]]
            save_sheet(sheet, folder / "strips.png", rows=_SHOWN)

    def _measure(self, method: ReadingMethod, pairs: Sequence[EditPairs], outcomes: Sequence[Outcome]) -> list[Row]:
        backbone = self._backbones.load(method if method.config is not None else self._first)
        values = measure_all(pairs, outcomes, backbone)
        regions = [
            self._judge.score(
                outcome.raw[row : row + 1],
                batch.source[row : row + 1],
                batch.mask[row : row + 1],
                label_of(spec.edits[0]),
            )
            for batch, outcome in zip(pairs, outcomes, strict=True)
            for row, spec in enumerate(batch.specs)
        ]
        return [{**value, **region} for value, region in zip(values, regions, strict=True)]


def _summarise(method: str, name: str, phrasing: Wording, values: Sequence[Row]) -> Row:
    means = summarise(method, name, values)
    head: Row = {"method": means.pop("method"), "set": means.pop("set"), "phrasing": phrasing}
    return {**head, **means, **mean_regions(values)}
