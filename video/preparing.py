"""The first part of a run: working frames, motion and layer masks on disk."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
import torch

from ..editors import Grounder, InputError
from .flow_files import write_flow
from .layers import make_layers, write_layers
from .options import options_to_record
from .raft import find_raft
from .run import describe_source, fingerprint, fingerprint_file
from .run_files import RunFiles
from .segments import cut
from .stored import move_stored, store_frames

Stage = Literal["frames", "flow", "masks", "fit", "edit", "render"]


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """How far a stage of a run is."""

    stage: Stage
    done: int
    """Of what the stage counts: frames, segments or steps."""
    total: int
    seconds: float
    """Since the stage began in this process."""
    psnr: float | None = None
    """While fitting: of the frames seen since the last report, in dB."""


Report = Callable[[RunProgress], None]


class Stopwatch:
    """Tells how far one stage is."""

    def __init__(self, stage: Stage, report: Report | None) -> None:
        """The stage begins now."""
        self._stage: Stage = stage
        self._report, self._began = report, monotonic()

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return monotonic() - self._began

    def tell(self, done: int, total: int, psnr: float | None = None) -> None:
        """Report where it stands."""
        if self._report is not None:
            self._report(RunProgress(stage=self._stage, done=done, total=total, seconds=self.seconds, psnr=psnr))


def prepare_frames(files: RunFiles, source: Path, report: Report | None) -> bool:
    """Store the working frames; say whether those of an earlier run were taken.

    Raises:
        InputError: if the run is one of another clip, or the clip cannot be read.
    """
    folder, config = files.folder, files.config.frames
    about = describe_source(source)
    if folder.has_begun:
        known = folder.value("source")
        moved = (known["name"], known["bytes"]) == (about["name"], about["bytes"])
        if known["path"] != about["path"] and not moved:
            raise InputError(
                f"{folder.root} is the run of another clip, {known['path']}: choose another --run, or remove the folder"
            )
    decided_by = {name: value for name, value in about.items() if name != "path"}
    mark = fingerprint("frames", decided_by, options_to_record(config))
    if folder.is_done("frames", mark) and _has_frames(files):
        _note_source(files, about)
        return True
    watch = Stopwatch("frames", report)
    watch.tell(0, 1)
    folder.begin("fit")
    folder.begin("frames")
    folder.store(source=about)
    files.forget()
    store_frames(
        source,
        folder.root / "frames",
        size=config.size,
        start=config.start,
        frames=config.frames,
        stride=config.stride,
        fps=config.fps,
    )
    _note_source(files, about)
    content = fingerprint_file(folder.root / "frames" / "frames.npy")
    folder.store(content=content)
    folder.finish("frames", mark)
    watch.tell(1, 1)
    return False


def _has_frames(files: RunFiles) -> bool:
    files.forget()
    try:
        return len(files.clip) > 0
    except InputError:
        return False


def _note_source(files: RunFiles, about: Mapping[str, Any]) -> None:
    """Keep where the clip lies now, beside the frames as well: rendering reads it from there."""
    known = files.clip.info
    if known is not None and str(known.path) != about["path"]:
        move_stored(files.clip.folder, Path(about["path"]))
        files.forget()
    if not files.folder.holds("source", about):
        files.folder.store(source=dict(about))


def prepare_segments(files: RunFiles) -> None:
    """Decide which frames belong to which segment."""
    folder = files.folder
    segments = [[rows.start, rows.stop] for rows in cut(len(files.clip), files.config.segments)]
    if not folder.holds("segments", segments):
        folder.begin("fit")
        folder.store(segments=segments)
        files.forget()
    folder.forget_segments(len(segments))


def flow_mark(files: RunFiles, segment: int) -> str:
    """What decides the flow of a segment."""
    config, rows = files.config.flow, files.rows[segment]
    # How many pairs go through at once changes nothing; of files, what is in them counts.
    options = options_to_record(replace(config, chunk=1, files=None, raft_checkpoint=None))
    weights = config.raft_checkpoint
    if weights is None and config.files is None and config.method == "auto":
        # Weights that arrive later are taken from then on.
        weights = find_raft(None)
    given = [_describe(path) for path in (config.files, weights)]
    return fingerprint("flow", files.folder.value("content"), rows.start, rows.stop, options, given)


def prepare_flow(files: RunFiles, report: Report | None) -> bool:
    """Find the motion within each segment; say whether all of it was there."""
    folder, reused = files.folder, True
    watch = Stopwatch("flow", report)
    for number, rows in enumerate(files.rows):
        path, mark = folder.segment_path("flow", number, ".npz"), flow_mark(files, number)
        if folder.is_done(f"flow_{number}", mark) and zipfile.is_zipfile(path):
            continue
        if reused:
            folder.begin("fit")
        reused = False
        watch.tell(number, len(files.rows))
        folder.begin(f"flow_{number}")
        write_flow(path, files.find_flow(rows))
        folder.finish(f"flow_{number}", mark)
    if not reused:
        files.forget()
        watch.tell(len(files.rows), len(files.rows))
    return reused


def masks_mark(files: RunFiles, about_grounder: object) -> str:
    """What decides the layer masks."""
    config = files.config.layers
    options = options_to_record(replace(config, masks=()))
    flow = [flow_mark(files, number) for number in range(len(files.rows))] if config.phrases else []
    given = [_fingerprint_all(path) for path in config.masks]
    looks = about_grounder if config.phrases else None
    return fingerprint("masks", files.folder.value("content"), options, given, looks, flow)


def prepare_masks(
    files: RunFiles, grounder: Callable[[], Grounder] | None, about_grounder: object, report: Report | None
) -> bool:
    """Make the layer masks; say whether they were there."""
    folder, config, mark = files.folder, files.config.layers, masks_mark(files, about_grounder)
    if folder.is_done("masks", mark) and _has_masks(files):
        return True
    watch = Stopwatch("masks", report)
    watch.tell(0, 1)
    folder.begin("fit")
    folder.begin("masks")
    frames = torch.from_numpy(np.load(folder.root / "frames" / "frames.npy", mmap_mode="c"))
    layers = make_layers(
        config,
        frames,
        flow=files.flow_between if config.phrases else None,
        grounder=grounder() if config.phrases and grounder is not None else None,
        timeline=files.clip.timeline,
    )
    if layers is not None:
        write_layers(folder.root / "masks", layers)
    folder.store(layers=[] if layers is None else list(layers.names))
    # Masks of this run that were mended by hand and handed in are written anew, in other bytes.
    if any(path.expanduser().resolve().is_relative_to(folder.root.resolve()) for path in config.masks):
        mark = masks_mark(files, about_grounder)
    folder.finish("masks", mark)
    watch.tell(1, 1)
    return False


def _has_masks(files: RunFiles) -> bool:
    """Whether every mask of every layer is there; of files that a power cut left behind, none is empty."""
    paths = [files.mask_path(layer, row) for layer in range(1, files.layers) for row in range(len(files.clip))]
    return all(path.is_file() and path.stat().st_size > 0 for path in paths)


def _describe(path: Path | None) -> dict[str, Any] | None:
    """A file or folder, by its state, whatever is in it."""
    states = [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in _files_of(path)]
    return None if path is None or not states else {"name": path.expanduser().name, "files": states}


def _fingerprint_all(path: Path) -> dict[str, Any]:
    """A file or folder, by what is in it: files that were written again are the same."""
    return {"name": path.name, "files": [(each.name, fingerprint_file(each)) for each in _files_of(path)]}


def _files_of(path: Path | None) -> list[Path]:
    if path is None:
        return []
    path = path.expanduser()
    return sorted(each for each in (path.rglob("*") if path.is_dir() else [path]) if each.is_file())
