"""What the user sees of a clip on its way: bars while a stage runs, and a line about each when it is done."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..video.fitting import FitSummary
from ..video.preparing import Report, RunProgress, Stage
from ..video.rendering import RenderSummary
from ..video.stages import EditSummary
from ..video.stored import StoredClip
from .progress import format_seconds, labelled_bar, warn

_LABELS: dict[Stage, str] = {
    "frames": "reading frames",
    "flow": "finding the motion",
    "masks": "finding layers",
    "fit": "fitting",
    "edit": "editing",
    "render": "rendering",
}


@contextmanager
def stage_bar() -> Iterator[Report]:
    """A bar that follows the stages of a run."""
    with labelled_bar() as show:

        def report(progress: RunProgress) -> None:
            detail = ""
            if progress.psnr is not None:
                detail = f"{progress.psnr:.1f} dB"
            elif progress.stage == "render" and progress.seconds > 0:
                detail = f"{progress.done / progress.seconds:.1f} frames/s"
            show(_LABELS[progress.stage], progress.done, progress.total, detail)

        yield report


def tell_clip(path: Path, clip: StoredClip) -> None:
    """Say what is worked on."""
    info = clip.info
    size = f"{clip.width}x{clip.height} pixels"
    if info is not None and (info.width, info.height) != (clip.width, clip.height):
        size = f"{info.width}x{info.height} pixels, worked on at {clip.width}x{clip.height}"
    print(f"{path}: {len(clip)} frames of {size}", flush=True)


def tell_fit(summary: FitSummary) -> None:
    """Say how faithfully the clip comes back, and whether anything had to be fitted for it."""
    worst = summary.worst[0]
    segments = f", {summary.segments} segments" if summary.segments > 1 else ""
    print(
        f"fit: {summary.mean_psnr:.1f} dB, at worst {summary.psnr[worst]:.1f} dB in frame {worst}{segments}; "
        f"{_time(summary.seconds, summary.was_reused)}",
        flush=True,
    )


def tell_edit(summary: EditSummary) -> None:
    """Say what the edit made of the canonical image, and where to look at it."""
    where = f"{100 * summary.masked:.1f}% of the canonical image masked"
    if summary.masked == 1:
        where = "the whole canonical image may have changed"
    for words in dict.fromkeys(_words_of(trace) for trace in summary.traces):
        if words:
            print(words)
    print(f"edit: {where}; {_time(summary.seconds, summary.was_reused)} -> {summary.sheet.parent}", flush=True)
    for warning in dict.fromkeys(each for trace in summary.traces for each in trace["warnings"]):
        warn(str(warning))


def _words_of(trace: Mapping[str, Any]) -> str:
    """What was made of the words: captions, and what was looked for."""
    said: list[str] = []
    for row, captions in enumerate(trace["captions"]):
        regions = trace["region_captions"][row] if trace["region_captions"] else [captions]
        said.append(f"{captions['source']} -> {' | '.join(dict.fromkeys(each['target'] for each in regions))}".strip())
    phrases = dict.fromkeys(each["phrase"] for picture in trace["grounding"] for each in picture)
    return "; ".join([*said, *([f"looked for: {', '.join(phrases)}"] if phrases else [])])


def tell_result(path: Path, summary: RenderSummary) -> None:
    """Say what came out."""
    kept = "nothing" if summary.changed_outside == 0 else f"{255 * summary.changed_outside:.2f} of 255 on average"
    steady = ""
    if summary.warp_error_source is not None and summary.warp_error_edited is not None:
        was, now = 255 * summary.warp_error_source, 255 * summary.warp_error_edited
        steady = f", along the motion {now:.2f} of 255 change, {was:.2f} in the source"
    print(
        f"{path}: {100 * summary.masked:.1f}% masked, outside changed: {kept}{steady}; "
        f"{_time(summary.seconds, summary.was_reused)} -> {summary.output}"
    )
    for warning in summary.warnings:
        print(f"note: {warning}")
    print(f"before and after: {summary.strip}")
    if summary.side_by_side is not None:
        print(f"side by side: {summary.side_by_side}")


def _time(seconds: float, was_reused: bool) -> str:
    return "reused" if was_reused else format_seconds(seconds)
