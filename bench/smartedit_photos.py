"""SmartEdit's bench on Reason-Edit (arXiv 2312.06739, section 5.1): means over its folders as the paper has them.

Understanding is the mean over all samples of five folders, reasoning that of the sixth; a folder that is not there is
left out. A picture that a method refused to edit counts as it was: the best background, and no PSNR.
"""

from collections.abc import Sequence

from ..editors import load_preset, locate_checkpoint
from .outcome import Progress
from .smartedit_data import ReasonEdit
from .smartedit_methods import Backbones, ReadingMethod
from .smartedit_options import SmartEditBenchConfig
from .smartedit_regions import RegionJudge, mean_regions
from .smartedit_runs import read_photo, run_photos
from .table import Row


class PhotoFigures:
    """The figures of methods, one after the other."""

    def __init__(
        self, config: SmartEditBenchConfig, items: ReasonEdit, judge: RegionJudge, backbones: Backbones
    ) -> None:
        """Measure on Reason-Edit.

        Args:
            config: where pictures are kept.
            items: the pictures.
            judge: measures regions.
            backbones: loads checkpoints.
        """
        self._config, self._items, self._judge, self._backbones = config, items, judge, backbones
        self._rows: list[Row] = []
        self.details: list[Row] = []
        """The same by folder."""

    @property
    def rows(self) -> list[Row]:
        """One for each set and method."""
        return sorted(self._rows, key=lambda row: row["set"] == "reasoning")

    def add(self, method: ReadingMethod, progress: Progress = lambda *_: None) -> None:
        """Run a method on every picture, or take what is kept of it, and measure it."""
        photos = run_photos(
            method,
            self._items,
            self._config.out / "reason_edit" / method.name,
            self._backbones,
            lambda done, total: progress(f"{method.name}, Reason-Edit", done, total),
        )
        by_folder: dict[str, list[Row]] = {}
        sets: dict[str, list[Row]] = {}
        for item, photo in zip(self._items, photos, strict=True):
            scores = self._judge.score(read_photo(photo), item.image, item.mask, item.label)
            row: Row = {**scores, "refused": float(photo.refused), "seconds": photo.seconds}
            by_folder.setdefault(item.folder, []).append(row)
            sets.setdefault("reasoning" if item.is_reasoning else "understanding", []).append(row)
        self._rows += [_summarise(method.name, name, values) for name, values in sets.items()]
        self.details += [_summarise(method.name, name, values) for name, values in by_folder.items()]


def know_little(methods: Sequence[ReadingMethod]) -> tuple[str, ...]:
    """A line about each method whose checkpoint does not know photos."""
    notes: list[str] = []
    for method in methods:
        known = "" if method.config is None else load_preset(locate_checkpoint(method.checkpoint, method.kind)).knows
        if known:
            notes.append(f"{method.name} runs on a checkpoint that only knows {known}: it does not understand photos")
    return tuple(notes)


def _summarise(method: str, name: str, values: Sequence[Row]) -> Row:
    row: Row = {"method": method, "set": name, "pictures": len(values), **mean_regions(values)}
    for metric in ("refused", "seconds"):
        row[metric] = sum(float(value[metric] or 0) for value in values) / len(values)
    return row
