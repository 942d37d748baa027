"""The second part of a run: fields for every segment, and how faithful they are."""

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..editors import MaskeditError, SessionError, read_json, write_json
from .fit import FitProgress, fit_clip
from .options import options_to_record
from .preparing import Report, Stopwatch
from .run import HINT, fingerprint, fingerprint_file
from .run_files import RunFiles
from .segments import Segment

_NAMED = 3
"""Worst frames that are named."""
_PICTURES = (".png", "_seen.png")
"""Endings of what `RunFiles.save_canonical` writes."""


class QualityError(MaskeditError):
    """The canonical image gives the clip back too badly to be worth an edit."""

    def __init__(self, psnr: float, *, minimum: float, worst: tuple[int, ...]) -> None:
        self.psnr, self.minimum, self.worst = psnr, minimum, worst
        frames = ", ".join(str(frame) for frame in worst)
        super().__init__(
            f"expected to give the unedited clip back with {minimum:g} dB or more, got {psnr:.1f} dB, worst in frames "
            f"{frames}: try a shorter clip or segments, layer masks, more --fit.steps or a larger --size, or set "
            "--accept-quality"
        )


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """How a clip was fitted."""

    psnr: tuple[float, ...]
    """Fidelity of the unedited reconstruction of each frame in dB; where segments overlap, of the worse one."""
    steps: int
    """Of each segment."""
    segments: int
    seconds: float
    """Of all segments, as far as they were not interrupted."""
    was_reused: bool
    """Whether nothing had to be fitted."""

    @property
    def mean_psnr(self) -> float:
        """Over all frames."""
        return sum(self.psnr) / len(self.psnr)

    @property
    def worst(self) -> tuple[int, ...]:
        """The frames that come out worst, the worst one first."""
        return tuple(sorted(range(len(self.psnr)), key=self.psnr.__getitem__)[:_NAMED])


def fit_mark(files: RunFiles, segment: int) -> str:
    """What decides the fields of a segment."""
    folder, rows = files.folder, files.rows[segment]
    before = [folder.mark_of(f"flow_{segment}"), folder.mark_of("masks")]
    options = options_to_record(files.config.fit)
    return fingerprint("fit", folder.value("content"), rows.start, rows.stop, options, before)


def forget_outdated(files: RunFiles) -> None:
    """Take the fit for unfinished where fields are not of these settings, so that no edit is made of them."""
    folder = files.folder
    if not all(folder.is_done(f"fit_{number}", fit_mark(files, number)) for number in range(len(files.rows))):
        folder.begin("fit")


def fit_segments(files: RunFiles, report: Report | None) -> FitSummary:
    """Fit all segments that are not fitted yet; an interrupted one goes on where it was last saved."""
    folder, count, reused = files.folder, len(files.rows), True
    watch = Stopwatch("fit", report)
    for number in range(count):
        mark = fit_mark(files, number)
        if folder.is_done(f"fit_{number}", mark) and _has_fields(files, number):
            continue
        if reused:
            folder.begin("fit")
        reused = False
        files.forget()
        folder.begin(f"fit_{number}")
        _fit_segment(files, number, mark, watch)
        folder.finish(f"fit_{number}", mark)
    # On a GPU, the same fit done again gives other fields: what is edited depends on them.
    fields = [_record(files, number).get("fields") for number in range(count)]
    whole = fingerprint("fit", [folder.mark_of(f"fit_{number}") for number in range(count)], fields)
    if not folder.is_done("fit", whole):
        _write_summary(files)
        folder.finish("fit", whole)
    return summarize_fit(files, was_reused=reused)


def summarize_fit(files: RunFiles, *, was_reused: bool) -> FitSummary:
    """What is known of a finished fit.

    Raises:
        SessionError: if the clip is not fitted.
    """
    records, psnr = files.fit_records(), dict[int, float]()
    for record in records:
        for frame, value in enumerate(record["psnr"], start=record["rows"][0]):
            psnr[frame] = min(value, psnr.get(frame, value))
    return FitSummary(
        psnr=tuple(psnr[frame] for frame in sorted(psnr)),
        steps=records[0]["steps"],
        segments=len(records),
        seconds=sum(record["seconds"] for record in records),
        was_reused=was_reused,
    )


def check_quality(files: RunFiles) -> None:
    """Refuse to edit what the fields give back badly.

    Raises:
        QualityError: if the mean fidelity is below the configured one, unless any is accepted.
        SessionError: if the clip is not fitted.
    """
    summary, config = summarize_fit(files, was_reused=True), files.config
    if summary.mean_psnr < config.minimum_psnr and not config.accept_quality:
        raise QualityError(summary.mean_psnr, minimum=config.minimum_psnr, worst=summary.worst)


def _has_fields(files: RunFiles, number: int) -> bool:
    """Whether the files of a fitted segment can be read; a power cut may leave empty ones."""
    pictures = [files.layer_path("canonical", number, n, end) for n in range(files.layers) for end in _PICTURES]
    try:
        _record(files, number)
        with safe_open(files.folder.segment_path("fit", number, ".safetensors"), framework="pt") as fields:
            is_fit = "fit" in (fields.metadata() or {})
    except (OSError, SafetensorError, SessionError):
        return False
    return is_fit and all(path.is_file() and path.stat().st_size > 0 for path in pictures)


def _record(files: RunFiles, number: int) -> dict[str, Any]:
    return read_json(files.folder.segment_path("fit", number, ".json"), hint="run the same command again")


def _fit_segment(files: RunFiles, number: int, mark: str, watch: Stopwatch) -> None:
    folder, rows, config, began = files.folder, files.rows[number], files.config.fit, watch.seconds
    # The name says which fit the state is of: that of other settings would be gone on with just as well.
    state = folder.segment_path("fit", number, f".{mark[:8]}.state")
    for old in state.parent.glob(f"segment_{number:03d}.*.state"):
        if old != state:
            old.unlink()
    state.parent.mkdir(parents=True, exist_ok=True)
    frames, flow, masks = files.clip.rows(rows), files.flow(number), files.masks(rows)

    def tell(progress: FitProgress) -> None:
        watch.tell(number * config.steps + progress.step, len(files.rows) * config.steps, progress.psnr)

    fit = fit_clip(frames, flow, masks, config, device=files.device, state_path=state, report=tell)
    segment = Segment(rows=rows, fit=fit, masks=masks)
    for layer in range(len(fit.layers)):
        files.save_canonical(number, layer, segment.canonical(layer))
    psnr = fit.psnr(frames, masks)
    fields = folder.segment_path("fit", number, ".safetensors")
    fit.save(fields)
    record = {
        "rows": [rows.start, rows.stop],
        "psnr": [round(value, 4) for value in psnr.tolist()],
        "steps": config.steps,
        "field": config.field,
        "flow": flow.method,
        "fields": fingerprint_file(fields),
        "parameters": sum(each.numel() for each in fit.parameters().values()),
        "seconds": round(watch.seconds - began, 3),
        "torch": torch.__version__,
    }
    write_json(folder.segment_path("fit", number, ".json"), record, hint=HINT)
    state.unlink(missing_ok=True)


def _write_summary(files: RunFiles) -> None:
    content = {"segments": [_record(files, number) for number in range(len(files.rows))]}
    write_json(files.folder.root / "fit.json", content, hint=HINT)
