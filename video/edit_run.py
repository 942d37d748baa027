"""The third part of a run: the canonical images edited, and kept as pictures."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..editors import Captions, Editor, InputError, Instruction, read_json, save_image, write_json
from .editing import Arrange, EditedClip, edit_segments
from .frame_mask import FrameMask
from .preparing import Report, Stopwatch
from .run import HINT, fingerprint
from .run_files import RunFiles


@dataclass(frozen=True, kw_only=True)
class EditSummary:
    """What an edit made of the canonical images."""

    traces: tuple[dict[str, Any], ...]
    """How it came about; one for a sheet, one for each canonical image otherwise."""
    masked: float
    """Share of the sheet inside the mask, in [0, 1]."""
    sheet: Path
    """All canonical images in one picture; beside it are `sheet_mask.png` and `sheet_edited.png`."""
    seconds: float
    was_reused: bool


@dataclass(frozen=True, kw_only=True)
class EditOrder:
    """What is to be done to a clip."""

    instructions: tuple[Instruction, ...]
    settings: Mapping[str, Any]
    """What else decides the edit: editor, options, checkpoint."""
    seed: int = 0
    captions: tuple[Captions, ...] = ()
    mask: FrameMask | None = None
    arrange: Arrange = "sheet"
    only_layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if any(each.mask is not None for each in self.instructions):
            raise InputError("masks of single instructions do not fit a clip: paint one mask for all, on a frame")

    def record(self) -> dict[str, Any]:
        """As plain values."""
        painted = None
        if self.mask is not None:
            values = self.mask.mask.cpu().contiguous().numpy()
            painted = {
                "frame": self.mask.frame,
                "shape": list(values.shape),
                "hash": hashlib.sha256(values.tobytes()).hexdigest(),
            }
        return {
            "instructions": [asdict(each) for each in self.instructions],
            "captions": [asdict(each) for each in self.captions],
            "seed": self.seed,
            "mask": painted,
            "arrange": self.arrange,
            "only_layers": self.only_layers,
            "settings": dict(self.settings),
        }


def edit_run(files: RunFiles, editor: Callable[[], Editor], order: EditOrder, report: Report | None) -> EditSummary:
    """Edit the canonical images of a fitted clip, unless the same was done already.

    Raises:
        NothingFoundError: if the editor finds nothing to edit.
        InputError: if the mask or the layers do not fit the clip.
    """
    folder, asked = files.folder, order.record()
    mark = fingerprint("edit", folder.mark_of("fit"), asked)
    reused = folder.is_done("edit", mark)
    if not reused:
        files.forget()
        watch = Stopwatch("edit", report)
        watch.tell(0, 1)
        edited = edit_segments(
            files.segments,
            editor(),
            order.instructions,
            seed=order.seed,
            captions=order.captions,
            mask=order.mask,
            arrange=order.arrange,
            only_layers=order.only_layers,
        )
        # Only now: an edit that is refused leaves the one before as it was.
        folder.begin("edit")
        _store(files, edited, asked, watch)
        folder.store(edited_fit=folder.mark_of("fit"))
        folder.finish("edit", mark)
        watch.tell(1, 1)
    record = read_json(folder.root / "edit" / "edit.json", hint="edit again, with another --seed or a new --run")
    return EditSummary(
        traces=tuple(record["traces"]),
        masked=record["masked"],
        sheet=folder.root / "edit" / "sheet.png",
        seconds=record["seconds"],
        was_reused=reused,
    )


def _store(files: RunFiles, edited: EditedClip, asked: Mapping[str, Any], watch: Stopwatch) -> None:
    """Write the pictures of an edit and, when they are there, what is known of it."""
    folder = files.folder.root / "edit"
    for old in folder.glob("segment_*.png"):
        old.unlink()
    for number, layers in enumerate(edited.segments):
        for layer, content in enumerate(layers):
            files.save_edited(number, layer, content)
    save_image(edited.sheet, folder / "sheet.png")
    save_image(edited.sheet_mask, folder / "sheet_mask.png")
    save_image(edited.sheet_edited, folder / "sheet_edited.png")
    record = {
        **asked,
        "traces": [asdict(trace) for trace in edited.traces],
        "masked": round(float((edited.sheet_mask > 0).float().mean()), 6),
        "seconds": round(watch.seconds, 3),
    }
    write_json(folder / "edit.json", record, hint=HINT)
