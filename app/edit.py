"""`maskedit edit` and `maskedit mask`: pictures and instructions in; pictures, masks, strips and JSON out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ..configs import PRESETS, PresetName
from ..editors import (
    BackboneConfig,
    Editor,
    EditorConfig,
    EditorName,
    EditRequest,
    FoIConfig,
    InputError,
    Instruction,
    IP2PConfig,
    Mask,
    NothingFoundError,
    overlay_mask,
    side_by_side,
)
from .memory import BatchLimit
from .models import load_backbone
from .options import FoIFlags, SharedFlags, join_options, split_options
from .pictures import (
    Picture,
    batches,
    check_pictures,
    installed_versions,
    read_batch,
    read_masks,
    trace_of,
    write_results,
)
from .progress import progress_bar, warn

MOST_AT_ONCE = 8
"""Pictures per batch unless --chunk says otherwise: enough to fill a GPU, few enough for a bar that moves."""
TINTS = ((1.0, 0.25, 0.1), (0.1, 0.55, 1.0), (0.2, 0.8, 0.3), (0.9, 0.3, 0.9))
"""Colours of the overlays, instruction by instruction."""
T = TypeVar("T", bound="MaskCommand")


@dataclass(frozen=True, kw_only=True)
class MaskCommand:
    """Find where instructions would act, without editing: overlays, masks and JSON."""

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PICTURE ...")] = ()
    """Picture files; those of the same size are edited together."""
    instruction: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to change, e.g. "make the red cube blue". Repeat it to change several things, each in its own region."""
    keyword: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """For each instruction the words of it that name the object; "" = chosen by the editor. None given = all chosen."""
    strength: tyro.conf.UseAppendAction[tuple[float, ...]] = ()
    """For each instruction how much it is emphasised, in [-10, 10]; none given = 1 for all."""
    editor: EditorName = "foi"
    """`foi` finds where to edit from the instruction and changes nothing else; `ip2p` changes what it likes."""
    preset: PresetName | None = None
    """A named set of checkpoint and options to start from; every other flag overrides it."""
    output: Path = Path("outputs")
    """Folder for the results; inputs are never replaced."""
    seed: int = 0
    """Seed of the first picture; the others count on from it."""
    checkpoint: tyro.conf.OmitArgPrefixes[BackboneConfig] = field(default_factory=BackboneConfig)
    """Which checkpoint to load, and how to run it."""
    shared: tyro.conf.OmitArgPrefixes[Annotated[IP2PConfig, tyro.conf.arg(constructor=SharedFlags)]] = field(
        default_factory=SharedFlags
    )
    """Options of every editor."""
    foi: Annotated[FoIConfig, tyro.conf.arg(constructor=FoIFlags)] = field(default_factory=FoIFlags)
    """Options of FoI alone."""

    @property
    def options(self) -> EditorConfig:
        """The options of the chosen editor."""
        return join_options(self.editor, self.shared, self.foi)

    def instructions(self) -> tuple[Instruction, ...]:
        """The instructions with their keywords and strengths.

        Raises:
            InputError: if there are none, or one makes no sense.
        """
        if not self.instruction:
            raise InputError('expected an instruction, got none: pass --instruction "make the red cube blue"')
        count = len(self.instruction)
        for flag, values in (("--keyword", self.keyword), ("--strength", self.strength)):
            if values and len(values) != count:
                raise InputError(f"expected {flag} once for each of {count} instructions, got it {len(values)} times")
        return tuple(
            Instruction(text=text, keyword=keyword or None, strength=strength)
            for text, keyword, strength in zip(
                self.instruction, self.keyword or ("",) * count, self.strength or (1.0,) * count, strict=True
            )
        )

    def run(self) -> None:
        """Find the masks and write them."""
        if self.editor == "ip2p":
            raise InputError("ip2p has no mask of its own, it may change anything: pass --editor foi")
        instructions, options = self.instructions(), self.options
        endings = ("_mask.png", "_overlay.png", ".json")
        pictures = check_pictures(self.images, self.output, endings)
        editor, settings = self.load(options)

        def find(group: Sequence[Picture]) -> None:
            request = self.request(group, instructions)
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
        record = self.record(picture, settings) | {"mask_area": areas}
        write_results(self.output, picture, images, record)
        share = ", ".join(f"{100 * area:.1f}% for {text!r}" for area, text in zip(areas, self.instruction, strict=True))
        print(f"{picture.path}: {share} -> {self.output / picture.name}_overlay.png")

    def load(self, options: EditorConfig) -> tuple[Editor, dict[str, Any]]:
        """The editor on its checkpoint, and the checkpoint's settings for the record."""
        from ..editors import make_editor

        backbone = load_backbone(self.checkpoint)
        editor = make_editor(options, backbone)
        settings = {
            "checkpoint": asdict(self.checkpoint) | {"preset": asdict(backbone.preset)},
            "device": str(backbone.device),
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "options": asdict(options),
        }
        return editor, settings

    def request(
        self, group: Sequence[Picture], instructions: tuple[Instruction, ...], mask: Mask | None = None
    ) -> EditRequest:
        """What to do with a batch of pictures; masks are given once and hold for each of them."""
        count = len(group)
        spread = tuple(i if i.mask is None else replace(i, mask=i.mask.expand(count, -1, -1, -1)) for i in instructions)
        return EditRequest(
            image=read_batch(group),
            instructions=spread,
            mask=None if mask is None else mask.expand(count, -1, -1, -1),
            seeds=tuple(self.seed + picture.number for picture in group),
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

    def record(self, picture: Picture, settings: dict[str, Any]) -> dict[str, Any]:
        """What the JSON beside each picture tells in any case."""
        return {
            "image": str(picture.path),
            "width": picture.width,
            "height": picture.height,
            "instructions": [asdict(each) | {"mask": None} for each in self.instructions()],
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

    def run(self) -> None:
        """Edit and write."""
        instructions, options = self.instructions(), self.options
        if self.dry_run and not self.mask:
            super().run()
            return
        endings = ("_edited.png", "_mask.png", "_strip.png", ".json")
        pictures = check_pictures(self.images, self.output, endings)
        instructions, mask = self._with_masks(instructions, pictures)
        editor, settings = self.load(options)
        settings["masks"] = [str(path) for path in self.mask]

        def edit(group: Sequence[Picture]) -> None:
            request = self.request(group, instructions, mask)
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
                write_results(self.output, picture, images, self.record(picture, settings) | {"trace": trace})
                for warning in result.trace.warnings:
                    warn(f"{picture.path}: {warning}")
                print(_summary(picture, trace, self.output))

        self.each(pictures, edit)

    def _with_masks(
        self, instructions: tuple[Instruction, ...], pictures: Sequence[Picture]
    ) -> tuple[tuple[Instruction, ...], Mask | None]:
        masks = read_masks(self.mask, pictures)
        if len(masks) <= 1:
            return instructions, masks[0] if masks else None
        if len(masks) != len(instructions):
            raise InputError(
                f"expected --mask once, or once for each of {len(instructions)} instructions, got it {len(masks)} times"
            )
        return tuple(replace(i, mask=m) for i, m in zip(instructions, masks, strict=True)), None


def _summary(picture: Picture, trace: dict[str, Any], output: Path) -> str:
    kept = "nothing" if trace["outside_change"] == 0 else f"{255 * trace['outside_change']:.2f} of 255 on average"
    unkept = f"{255 * trace['outside_change_unkept']:.2f} of 255"
    if trace["mask_area"] == 1:
        where = "the whole picture may have changed"
    else:
        where = f"{100 * trace['mask_area']:.1f}% masked, outside changed: {kept} (the model alone: {unkept})"
    return f"{picture.path}: {where}; {trace['seconds']:.1f} s -> {output / picture.name}_strip.png"


def from_preset(command: type[T], name: PresetName) -> T:
    """A command whose defaults are a preset's."""
    preset = PRESETS[name]
    shared, foi = split_options(preset.options)
    return command(
        editor=preset.editor,
        preset=name,
        checkpoint=preset.checkpoint,
        shared=shared,
        foi=foi,
    )
