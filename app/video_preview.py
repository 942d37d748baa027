"""`maskedit video --dry-run`: where an edit would act in a roughly fitted canonical image, and what all would take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch

from ..editors import (
    Captions,
    Editor,
    EditRequest,
    EditResult,
    EditTrace,
    Image,
    InputError,
    Instruction,
    Mask,
    NothingFoundError,
    overlay_mask,
    save_image,
)
from ..video.composite import edit_frames
from ..video.editing import Arrange, EditedClip, edit_segments
from ..video.fit import fit_clip
from ..video.frame_mask import FrameMask
from ..video.segments import Segment
from ..video.stages import VideoRun
from .progress import format_seconds

STEPS = 40
"""Of a rough fit. Fields that start from the flow show the scene from the first step on."""


@dataclass(frozen=True, kw_only=True)
class PreviewedEdit:
    """Where an edit would act, and what it would cost."""

    sheet: Image
    """The canonical images."""
    mask: Mask
    """Where the edit would act in them."""
    fit_seconds: float
    """That a whole fit would take; 0 = there is one."""
    render_seconds: float
    """That rendering would take, without writing the file."""
    segments: int
    """Of the clip; the first of several is shown, or the one of the painted mask."""

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write the canonical image with the mask laid over it, and the mask.

        Args:
            folder: where.
            name: of the clip.
        """
        return (
            save_image(overlay_mask(self.sheet, self.mask), folder / f"{name}_canonical_overlay.png"),
            save_image(self.mask, folder / f"{name}_canonical_mask.png"),
        )

    def describe(self, folder: Path, name: str) -> str:
        """One line about it; the arguments are those of `write`."""
        share = 100 * float((self.mask > 0).float().mean())
        fit = f"fitting about {format_seconds(self.fit_seconds)}" if self.fit_seconds else "nothing left to fit"
        part = f" of one of {self.segments} segments" if self.segments > 1 else ""
        return (
            f"dry run: {share:.1f}% of the canonical image{part} masked; {fit}, one edit, rendering about "
            f"{format_seconds(self.render_seconds)} -> {folder / name}_canonical_overlay.png"
        )


class MaskFinder:
    """An editor that stops where it knows the masks: pictures stay as they are."""

    def __init__(self, editor: Editor, *, has_mask: bool) -> None:
        """Stand before an editor.

        Args:
            editor: the one to ask.
            has_mask: whether it finds masks by itself.
        """
        self._editor, self._has_mask = editor, has_mask

    def plan(self, request: EditRequest) -> EditRequest:
        """What the editor plans."""
        return self._editor.plan(request)

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """The editor's masks; without any of its own, everything."""
        if self._has_mask or request.mask is not None:
            return self._editor.find_masks(request)
        return (torch.ones_like(request.image[:, :1]),)

    def edit(self, request: EditRequest) -> EditResult:
        """The picture as it was, with the masks."""
        masks = self.find_masks(self.plan(request))
        overall = torch.stack(masks).amax(0)
        return EditResult(image=request.image, mask=overall, masks=masks, trace=EditTrace(editor="preview"))


def preview_edit(
    run: VideoRun,
    editor: Editor,
    instructions: Sequence[Instruction],
    *,
    captions: Sequence[Captions] = (),
    seed: int = 0,
    mask: FrameMask | None = None,
    has_mask: bool = True,
    only_layers: Sequence[int] | None = None,
    arrange: Arrange = "sheet",
) -> PreviewedEdit:
    """Find out where an edit would act, in a finished fit or else in a rough one that is not kept.

    Args:
        run: of a prepared clip.
        editor: the one that would edit.
        instructions: what it would do.
        captions: before and after, for editors that read them.
        seed: of the edit.
        mask: painted on a frame.
        has_mask: whether the editor finds masks by itself.
        only_layers: layers that may change; None = all.
        arrange: all canonical images in one picture, or each alone.

    Raises:
        InputError: if nothing is found.
    """
    segment, fit_seconds = _segment(run, 0 if mask is None else mask.frame)
    try:
        found = edit_segments(
            (segment,),
            MaskFinder(editor, has_mask=has_mask),
            instructions,
            seed=seed,
            captions=captions,
            mask=mask,
            only_layers=only_layers,
            arrange=arrange,
        )
    except NothingFoundError as error:
        raise InputError(f"{error} (searched: the canonical image of a rough fit)") from error
    return PreviewedEdit(
        sheet=found.sheet,
        mask=found.sheet_mask,
        fit_seconds=fit_seconds,
        render_seconds=_time_rendering(run, segment, found),
        segments=len(run.files.rows),
    )


def _segment(run: VideoRun, frame: int) -> tuple[Segment, float]:
    """The segment of a frame, and the seconds that fitting all would take; 0 = they are fitted."""
    files = run.files
    number = next(n for n, rows in enumerate(files.rows) if rows.start <= frame < rows.stop)
    if files.folder.mark_of("fit") is not None:
        return files.segments[number], 0.0
    rows, config = files.rows[number], files.config.fit
    rough = replace(config, steps=min(config.steps, STEPS))
    frames, masks = files.clip.rows(rows), files.masks(rows)
    start = perf_counter()
    fit = fit_clip(frames, files.flow(number), masks, rough, device=files.device)
    seconds = (perf_counter() - start) / rough.steps * config.steps * len(files.rows)
    return Segment(rows=rows, fit=fit, masks=masks), seconds


def _time_rendering(run: VideoRun, segment: Segment, found: EditedClip) -> float:
    """Seconds for all frames, from one of them at the size of the result."""
    files = run.files
    frame = files.clip.rows(segment.rows.start)
    if files.config.render.size == "source" and files.clip.info is not None:
        info = files.clip.info
        frame = frame.new_zeros(1, 3, info.height, info.width)
    start = perf_counter()
    edit_frames(frame, (segment.rows.start,), (segment,), found.segments, files.config.render.transfer)
    return (perf_counter() - start) * len(files.clip)
