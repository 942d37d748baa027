"""`maskedit edit` and `maskedit mask`: pictures and instructions in; pictures, masks, strips and JSON out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..editors import (
    EDITORS,
    Captions,
    EditRequest,
    InputError,
    Instruction,
    Mask,
    NothingFoundError,
    overlay_mask,
    side_by_side,
)
from .asking import AskCommand
from .memory import BatchLimit
from .pictures import (
    Picture,
    assign_masks,
    batches,
    check_pictures,
    installed_versions,
    read_batch,
    trace_of,
    write_results,
)
from .progress import progress_bar, warn
from .telling import Teller, instruction_record

MOST_AT_ONCE = 8
"""Pictures per batch unless --chunk says otherwise: enough to fill a GPU, few enough for a bar that moves."""
TINTS = ((1.0, 0.25, 0.1), (0.1, 0.55, 1.0), (0.2, 0.8, 0.3), (0.9, 0.3, 0.9))
"""Colours of the overlays, instruction by instruction."""


@dataclass(frozen=True, kw_only=True)
class MaskCommand(AskCommand):
    """Find where instructions would act, without editing: overlays, masks and JSON."""

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PICTURE ...")] = ()
    """Picture files; those of the same size are edited together."""
    output: Path = Path("outputs")
    """Folder for the results; inputs are never replaced."""
    seed: int = 0
    """Seed of the first picture; the others count on from it."""

    def run(self) -> None:
        """Find the masks and write them."""
        self.show_masks(())

    def show_masks(self, paths: Sequence[Path]) -> None:
        """Write the masks an edit would use.

        Args:
            paths: masks that were given.

        Raises:
            InputError: if the editor has no masks and none were given.
        """
        entry = EDITORS[self.editor]
        if not entry.has_mask and not paths and not any(self.phrase):
            others = [name for name, other in EDITORS.items() if other.has_mask and other.kind == entry.kind]
            advice = f"--editor {' or '.join(others)}" if others else "--phrase with what to look for"
            raise InputError(f"{self.editor} has no mask of its own, it may change anything: pass {advice}")
        instructions, captions, options = self.instructions(), self.captions(), self.options
        pictures = check_pictures(self.images, self.output, ("_mask.png", "_overlay.png", ".json"))
        instructions, mask = assign_masks(instructions, paths, pictures)
        editor, settings = self.load(options, edits=False)
        tell = Teller()

        def find(group: Sequence[Picture]) -> None:
            request = editor.plan(self.request(group, instructions, captions, mask))
            tell.plan(group, request, len(instructions))
            masks = editor.find_masks(request)
            for row, picture in enumerate(group):
                self._write_masks(picture, request, [m[row : row + 1] for m in masks], settings, row)

        self.each(pictures, find)

    def _write_masks(
        self, picture: Picture, request: EditRequest, masks: Sequence[Mask], settings: dict[str, Any], row: int
    ) -> None:
        shown, overall = request.image[row : row + 1], masks[0]
        for number, mask in enumerate(masks):
            shown = overlay_mask(shown, mask, color=TINTS[number % len(TINTS)])
            overall = overall.maximum(mask)
        images = {"_mask.png": overall, "_overlay.png": shown}
        if len(masks) > 1:
            images |= {f"_mask{number + 1}.png": mask for number, mask in enumerate(masks)}
        areas = [float(mask.mean()) for mask in masks]
        captions = asdict(request.captions[row]) if request.captions else None
        record = self.record(picture, request.rows(slice(row, row + 1)), settings) | {
            "captions": captions,
            "mask_area": areas,
        }
        write_results(self.output, picture, images, record)
        share = ", ".join(
            f"{100 * area:.1f}% for {each.text!r}" for area, each in zip(areas, request.instructions, strict=True)
        )
        print(f"{picture.path}: {share} -> {self.output / picture.name}_overlay.png")

    def request(
        self,
        group: Sequence[Picture],
        instructions: tuple[Instruction, ...],
        captions: tuple[Captions, ...] = (),
        mask: Mask | None = None,
    ) -> EditRequest:
        """What to do with a batch of pictures; masks are given once and hold for each of them."""
        count = len(group)
        spread = tuple(i if i.mask is None else replace(i, mask=i.mask.expand(count, -1, -1, -1)) for i in instructions)
        return EditRequest(
            image=read_batch(group),
            instructions=spread,
            mask=None if mask is None else mask.expand(count, -1, -1, -1),
            seeds=tuple(self.seed + picture.number for picture in group),
            captions=captions,
        )

    def each(self, pictures: Sequence[Picture], work: Callable[[Sequence[Picture]], None]) -> None:
        """Work through the pictures batch by batch; one in which nothing is found does not stop the others.

        Raises:
            NothingFoundError: at the end, about the first of those.
        """
        failures: list[tuple[Picture, NothingFoundError]] = []
        with progress_bar("editing" if isinstance(self, EditCommand) else "finding", len(pictures)) as step:
            limit = BatchLimit(self.options.chunk or MOST_AT_ONCE)
            for group in batches(pictures, lambda: limit.count):
                try:
                    with limit.watch():
                        work(group)
                    step(len(group))
                    continue
                except NothingFoundError as error:
                    if len(group) == 1:
                        failures.append((group[0], error))
                        step(1)
                        continue
                for picture in group:
                    try:
                        work((picture,))
                    except NothingFoundError as error:
                        failures.append((picture, error))
                    step(1)
        if failures:
            picture, error = failures[0]
            done = f" ({len(pictures) - len(failures)} of {len(pictures)} pictures were written)"
            raise InputError(f"{picture.path}: {error}{done if len(pictures) > 1 else ''}") from error

    def record(self, picture: Picture, request: EditRequest, settings: dict[str, Any]) -> dict[str, Any]:
        """What the JSON beside each picture tells in any case; the request is the planned one of this picture alone."""
        return {
            "image": str(picture.path),
            "width": picture.width,
            "height": picture.height,
            "instructions": [instruction_record(each) for each in request.instructions],
            "editor": self.editor,
            "preset": self.preset,
            "seed": self.seed + picture.number,
            **settings,
            "versions": installed_versions(),
        }


@dataclass(frozen=True, kw_only=True)
class EditCommand(MaskCommand):
    """Edit pictures by instruction: the edited picture, its mask, a strip before | mask | after, and JSON."""

    mask: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Where it may change: a picture as large as the input, white = may; for all instructions, or one for each."""
    dry_run: bool = False
    """Only show the masks that an edit would use, as `maskedit mask` does."""

    @property
    def has_masks(self) -> bool:
        """Whether masks were given that say where to edit."""
        return bool(self.mask)

    def run(self) -> None:
        """Edit and write."""
        if self.dry_run:
            self.show_masks(self.mask)
            return
        instructions, captions, options = self.instructions(), self.captions(), self.options
        endings = ("_edited.png", "_mask.png", "_strip.png", ".json")
        pictures = check_pictures(self.images, self.output, endings)
        instructions, mask = assign_masks(instructions, self.mask, pictures)
        editor, settings = self.load(options)
        settings["masks"] = [str(path) for path in self.mask]
        tell = Teller()

        def edit(group: Sequence[Picture]) -> None:
            request = editor.plan(self.request(group, instructions, captions, mask))
            tell.plan(group, request, len(instructions))
            result = editor.edit(request)
            for row, picture in enumerate(group):
                rows = slice(row, row + 1)
                images = {
                    "_edited.png": result.image[rows],
                    "_mask.png": result.mask[rows],
                    "_strip.png": side_by_side([request.image[rows], result.mask[rows], result.image[rows]]),
                }
                if len(result.masks) > 1:
                    images |= {f"_mask{number + 1}.png": mask[rows] for number, mask in enumerate(result.masks)}
                trace = trace_of(result, row)
                record = self.record(picture, request.rows(rows), settings) | {"trace": trace}
                write_results(self.output, picture, images, record)
                for warning in result.trace.warnings:
                    warn(f"{picture.path}: {warning}")
                print(_summary(picture, trace, self.output))

        self.each(pictures, edit)


def _summary(picture: Picture, trace: dict[str, Any], output: Path) -> str:
    kept = "nothing" if trace["outside_change"] == 0 else f"{255 * trace['outside_change']:.2f} of 255 on average"
    unkept = f"{255 * trace['outside_change_unkept']:.2f} of 255"
    if trace["mask_area"] == 1:
        confine = "" if EDITORS[trace["editor"]].has_mask else " (--mask confines it)"
        where = f"the whole picture may have changed{confine}"
    else:
        where = f"{100 * trace['mask_area']:.1f}% masked, outside changed: {kept} (the model alone: {unkept})"
    return f"{picture.path}: {where}; {trace['seconds']:.1f} s -> {output / picture.name}_strip.png"
