"""The last part of a run: every frame of the clip with the edit in it, and what can be said about the result."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..editors import (
    Image,
    InputError,
    SessionError,
    load_mask,
    read_json,
    resize_image,
    save_image,
    side_by_side,
    write_json,
)
from .composite import EditedFrames, mask_and_edit_frames
from .editing import EditedLayer
from .fitting import summarize_fit
from .frames import frames_of, shrink
from .metrics import Mean, warp_difference
from .options import options_to_record
from .preparing import Report, Stopwatch
from .run import HINT, describe_source, fingerprint
from .run_files import RunFiles
from .timeline import timeline_to_record
from .writing import ClipWriter

_PIXELS_AT_ONCE = 1 << 21
"""Pixels of the frames that are in memory together."""
_MOST_FRAMES = 16
_STRIP_HEIGHT = 256


@dataclass(frozen=True, kw_only=True)
class RenderSummary:
    """An edited clip and what was measured on it."""

    output: Path
    """The clip."""
    strip: Path
    """A picture: a frame, the canonical image before and after, the frame after."""
    side_by_side: Path | None
    """A clip of source and result beside each other, where one was asked for."""
    codec: str
    sound: str
    """`copied`, `encoded` or `left out`."""
    warnings: tuple[str, ...]
    """What is not as in the source."""
    frames: int
    psnr: float
    """Mean fidelity of the unedited reconstruction in dB."""
    masked: float
    """Share of all pixels that follow the edit, in [0, 1]."""
    changed_outside: float
    """Mean absolute change of the other pixels before the codec, in [0, 1]: 0."""
    warp_error_source: float | None
    """How much colours change along the motion, in [0, 1]; None = no motion is trusted."""
    warp_error_edited: float | None
    """The same of the result; by the motion of the source."""
    seconds: float
    was_reused: bool = False


def render_clip(files: RunFiles, output: Path, report: Report | None) -> RenderSummary:
    """Render an edited clip into a file.

    Args:
        files: of the run.
        output: ends in .mp4 or .gif, or is a folder of pictures.
        report: told about frames done.

    Raises:
        InputError: if the source has gone or changed, or the output cannot be written.
    """
    config, timeline, note = files.config.render, files.clip.timeline, lost_sound(files)
    file = config.file if note is None else replace(config.file, sound=False)
    watch, measures = Stopwatch("render", report), _Measures(files)
    beside = files.folder.root / "render" / "side_by_side.mp4" if config.side_by_side else None
    with ExitStack() as stack:
        writer = stack.enter_context(ClipWriter(output, timeline, config=file))
        second = stack.enter_context(ClipWriter(beside, timeline, config=file)) if beside else None
        for numbers, source in _read_chunks(files):
            done = edit_chunk(files, numbers, source)
            measures.take(numbers, source, done)
            for before, after in zip(source, done.frames, strict=True):
                writer.write(after)
                if second is not None:
                    second.write(torch.cat([before, after], -1))
            watch.tell(numbers[-1] + 1, len(timeline))
    strip = draw_strip(files)
    written = writer.result
    summary = RenderSummary(
        output=output,
        strip=strip,
        side_by_side=beside,
        codec=written.codec,
        sound=written.sound,
        warnings=written.warnings if note is None else (*written.warnings, note),
        frames=written.frames,
        psnr=round(summarize_fit(files, was_reused=True).mean_psnr, 4),
        **measures.values(),
        seconds=round(watch.seconds, 3),
    )
    write_json(files.folder.root / "render" / "render.json", asdict(summary), hint=HINT)
    return summary


def render_mark(files: RunFiles, output: Path, *, with_sound: bool = True) -> str:
    """What decides the rendered clip; where its source lies does not."""
    folder, timeline = files.folder, timeline_to_record(files.clip.timeline)
    if timeline["source"] is not None:
        del timeline["source"]["path"]
    options = options_to_record(files.config.render)
    before = [folder.mark_of("edit"), folder.mark_of("frames")]
    return fingerprint("render", before, timeline, options, str(output.resolve()), with_sound)


def find_rendered(files: RunFiles, output: Path) -> RenderSummary | None:
    """What an earlier render made of the same; None = there is none, or not all of it is there."""
    folder = files.folder
    # What was rendered with sound stays good when the source has gone; without it, only until the source is back.
    marks = {render_mark(files, output), render_mark(files, output, with_sound=lost_sound(files) is None)}
    if folder.mark_of("render") not in marks or not output.exists():
        return None
    try:
        record = read_json(folder.root / "render" / "render.json", hint="choose another --output")
        summary = record_to_summary(record)
    except (SessionError, KeyError, TypeError):
        return None
    beside = [path for path in (summary.strip, summary.side_by_side) if path is not None]
    if not folder.holds("output", describe_source(output)) or not all(path.is_file() for path in beside):
        return None
    return replace(summary, was_reused=True)


def lost_sound(files: RunFiles) -> str | None:
    """Why the sound of the source is left out although the clip needs nothing else of it; None = it is not."""
    config, info = files.config.render, files.clip.info
    if config.size != "working" or not config.file.sound or info is None or not info.has_audio:
        return None
    try:
        check_source(files)
    except InputError:
        return f"sound is left out: {info.path} has gone or changed since it was fitted"
    return None


def record_to_summary(record: Mapping[str, Any]) -> RenderSummary:
    """What render.json says."""
    paths = {name: None if record[name] is None else Path(record[name]) for name in ("output", "strip", "side_by_side")}
    return RenderSummary(**{**record, **paths, "warnings": tuple(record["warnings"])})


def edit_chunk(files: RunFiles, numbers: range, frames: UInt8[Tensor, "frame 3 height width"]) -> EditedFrames:
    """Some consecutive frames with the edit in them.

    Args:
        files: of the run.
        numbers: of the frames in the clip.
        frames: of the source, at any size.
    """
    holding = [n for n, rows in enumerate(files.rows) if rows.start <= numbers[-1] and numbers[0] < rows.stop]
    segments = [files.segments[number] for number in holding]
    layers: Sequence[Sequence[EditedLayer]] = [files.edited(number) for number in holding]
    return mask_and_edit_frames(frames, numbers, segments, layers, files.config.render.transfer)


def draw_strip(files: RunFiles) -> Path:
    """A frame | the canonical image | the same, edited | the frame, edited: from about the middle of the clip."""
    # The middle of a segment: where two overlap, a frame shows something of both.
    segment = len(files.rows) // 2
    middle = (files.rows[segment].start + files.rows[segment].stop) // 2
    frame = files.clip.rows(middle)
    done = edit_chunk(files, range(middle, middle + 1), frame).frames
    layers = files.edited(segment)
    # Of several layers the one that changed most tells most.
    number = max(range(len(layers)), key=lambda layer: float(layers[layer].mask.sum()))
    rows, columns = _box(files, segment, number)
    panels = [
        frame.float() / 255,
        layers[number].original[..., rows, columns],
        layers[number].edited[..., rows, columns],
        done.float() / 255,
    ]
    height = min(_STRIP_HEIGHT, files.clip.height)
    return save_image(
        side_by_side([_to_height(each, height) for each in panels]), files.folder.root / "render" / "strip.png"
    )


def _read_chunks(files: RunFiles) -> Iterator[tuple[range, UInt8[Tensor, "frame 3 height width"]]]:
    """The frames that the edit is put into, a few at a time."""
    clip, info = files.clip, files.clip.info
    if files.config.render.size == "working" or info is None:
        count = _at_once(clip.height, clip.width)
        for start in range(0, len(clip), count):
            rows = range(start, min(start + count, len(clip)))
            yield rows, clip.rows(slice(rows.start, rows.stop))
        return
    check_source(files)
    held: list[Tensor] = []
    first, count = 0, _at_once(info.height, info.width)
    for frame in frames_of(clip.timeline):
        held.append(torch.from_numpy(frame.pixels).permute(2, 0, 1))
        if len(held) == count:
            yield range(first, first + len(held)), torch.stack(held)
            first, held = first + len(held), []
    if held:
        yield range(first, first + len(held)), torch.stack(held)


def check_source(files: RunFiles) -> None:
    """Make sure that the clip is still the one that was fitted.

    Raises:
        InputError: if it has gone or changed.
    """
    known = files.folder.value("source")
    try:
        about = describe_source(Path(known["path"]))
    except InputError as error:
        raise InputError(f"{error}: put it back, or render with --render.size working") from error
    if about != known:
        raise InputError(
            f"{known['path']} has changed since it was fitted: fit it again, or render with --render.size working"
        )


def _at_once(height: int, width: int) -> int:
    return min(_MOST_FRAMES, max(1, _PIXELS_AT_ONCE // (height * width)))


def _box(files: RunFiles, segment: int, layer: int) -> tuple[slice, slice]:
    seen = load_mask(files.layer_path("canonical", segment, layer, "_seen.png"))[0, 0] > 0.5
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    if not len(rows):
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _to_height(picture: Image, height: int) -> Float[Tensor, "1 3 height2 width2"]:
    return resize_image(picture, height, max(1, round(picture.shape[-1] * height / picture.shape[-2])))


class _Measures:
    """What is measured while frames go by."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._outside, self._masked = Mean(), Mean()
        self._warp = {"source": Mean(), "edited": Mean()}
        self._last: dict[str, Tensor] | None = None

    def take(self, numbers: range, source: UInt8[Tensor, "frame 3 height width"], done: EditedFrames) -> None:
        inside, everywhere = done.mask[:, 0] > 0, torch.ones_like(done.mask[:, 0], dtype=torch.bool)
        self._outside.add((done.frames.float() - source.float()).abs() / 255, ~inside)
        self._masked.add(inside[:, None].float(), everywhere)
        small = {"source": self._shrink(source), "edited": self._shrink(done.frames)}
        for row, number in enumerate(numbers):
            now = {name: frames[row : row + 1] for name, frames in small.items()}
            if self._last is not None:
                self._add_pair(number - 1, self._last, now)
            self._last = now

    def _add_pair(self, number: int, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
        """One step from a frame to the next; between segments that share no frame the motion is not known."""
        rows, holding = self._files.rows, -1
        for segment, each in enumerate(rows):
            if each.start <= number and number + 1 < each.stop:
                holding = segment
        if holding < 0:
            return
        pair, motion = number - rows[holding].start, self._files.flow(holding)
        flow, trusted = motion.forward[pair, None], motion.forward_confident[pair, None]
        for name, mean in self._warp.items():
            mean.add(warp_difference(before[name], after[name], flow), trusted)

    def _shrink(self, frames: UInt8[Tensor, "frame 3 height width"]) -> Float[Tensor, "frame 3 height2 width2"]:
        size = self._files.clip.height, self._files.clip.width
        small = [shrink(np.ascontiguousarray(each.permute(1, 2, 0).numpy()), *size) for each in frames]
        return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255

    def values(self) -> dict[str, Any]:
        def known(mean: Mean) -> float | None:
            return round(mean.value, 8) if mean.count else None

        return {
            "masked": known(self._masked) or 0.0,
            "changed_outside": known(self._outside) or 0.0,
            "warp_error_source": known(self._warp["source"]),
            "warp_error_edited": known(self._warp["edited"]),
        }
