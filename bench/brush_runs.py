"""One run of a method of InstructBrush's tables on one edit: learn from its pairs, then edit those held out.

A run is kept: its brush, the state of its learning, its pictures and its costs. It is taken up again, or taken as it
is, where its settings and pictures are the same.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from safetensors.torch import load_file

from ..editors import (
    IP2P,
    Backbone,
    ClipScorer,
    Editor,
    EditRequest,
    Image,
    InputError,
    InstructBrush,
    InstructBrushConfig,
    Instruction,
    IP2PConfig,
    ModelError,
    OptimizeProgress,
    Visii,
    VisiiConfig,
    WatchConfig,
    fingerprint_checkpoint,
    in_chunks,
    learn_brush,
    read_json,
    write_json,
    write_tensors,
)
from .brush_methods import LEARNED, BrushMethod, LearnConfig, find_beginning, make_recipe
from .brush_sets import BrushSet
from .scene_watch import forget_peak, peak_memory
from .table import Row

if TYPE_CHECKING:
    from ..editors import Brush

Report: TypeAlias = Callable[[int, int], None]
"""Receives steps done and steps in all."""
_SLICES = 6
"""Times a run is saved while it learns."""
_HINT = "choose another --out, or remove it to begin anew"


@dataclass(frozen=True, kw_only=True)
class MethodRun:
    """What a method made of an edit."""

    edited: Image
    """Of the pictures held out."""
    costs: Row
    """Seconds and memory, and the text the learning began from."""


class MethodRunner:
    """Runs methods on edits and keeps what they made."""

    def __init__(
        self,
        backbone: Backbone,
        config: LearnConfig,
        folder: Path,
        *,
        size: int | None = None,
        sampling_steps: int | None = None,
        clip: ClipScorer | None = None,
    ) -> None:
        """Keep runs in a folder.

        Args:
            backbone: the checkpoint.
            config: how brushes are learned.
            folder: where the runs of an edit have a folder of its name.
            size: longest side in pixels; None = the checkpoint's own.
            sampling_steps: steps of an edit; None = the checkpoint's own.
            clip: finds initial texts, and tells Visii where the edit leads; None = nobody does.
        """
        self._backbone, self._config, self._folder = backbone, config, folder
        self._canvas: dict[str, Any] = {"size": size, "steps": sampling_steps}
        self._clip = clip
        # A processor's own seconds do not depend on what else it does.
        self._now = time.process_time if backbone.device.type == "cpu" else time.perf_counter

    def run(self, method: BrushMethod, edit: BrushSet, shots: int, report: Report = lambda *_: None) -> MethodRun:
        """One method on one edit, or what is kept of it.

        Raises:
            InputError: if there are too few pairs, or the folder cannot be written.
            SessionError: if the run was begun with other settings.
            ModelError: if learning fails.
        """
        if method in ("unedited", "round-trip"):
            edited = edit.test.before if method == "unedited" else self._through_codec(edit.test.after)
            return MethodRun(edited=edited, costs={})
        name = f"{method}_{shots}" if method in LEARNED else method
        place = self._folder / edit.name / name
        settings = self._settings(method, edit, shots)
        kept = _read(place, settings)
        if kept is not None:
            return kept
        costs: Row = {}
        editor: Editor = IP2P(self._backbone, IP2PConfig(**self._canvas, chunk=self._config.chunk))
        text = edit.instruction
        if method in LEARNED:
            brush, costs = self._learn(method, edit, shots, place, report)
            editor, text = self._editor(brush), brush.header.name
        start = self._now()
        edited = self._edit(editor, text, edit)
        costs["seconds_edit"] = (self._now() - start) / len(edited)
        write_tensors(place.with_suffix(".edited.safetensors"), {"edited": edited}, hint=_HINT, error=InputError)
        write_json(place.with_suffix(".json"), {"settings": settings, "costs": costs}, hint=_HINT, error=InputError)
        return MethodRun(edited=edited, costs=costs)

    def _settings(self, method: BrushMethod, edit: BrushSet, shots: int) -> dict[str, object]:
        """All that decides a run but the initial text, which follows from it."""
        learns, clip = method in LEARNED, self._clip
        recipe = make_recipe(method, self._config, has_clip=clip is not None) if learns else None
        looks = {"clip": clip.name, "phrases": self._config.phrases, "caption": self._config.caption} if clip else None
        content = {
            "recipe": None if recipe is None else replace(recipe, chunk=None),
            "looks": looks if learns else None,
            "instruction": None if learns else edit.instruction,
            "checkpoint": fingerprint_checkpoint(self._backbone.origin, "instruct-pix2pix"),
            "canvas": self._canvas,
            "pictures": edit.mark(shots),
        }
        return json.loads(json.dumps(content, default=_to_json))

    def _learn(
        self, method: BrushMethod, edit: BrushSet, shots: int, place: Path, report: Report
    ) -> tuple["Brush", Row]:
        text = find_beginning(method, edit, shots, self._clip, self._config)
        recipe = make_recipe(method, self._config, initial_text=text, has_clip=self._clip is not None)
        watch = WatchConfig(every=math.ceil(recipe.steps / _SLICES), patience=0)
        folder = place.with_name(f"{place.name}_learning")
        clock = _Clock(report, skip=(folder / "state.safetensors").is_file(), now=self._now)
        forget_peak(self._backbone.device)
        try:
            brush = learn_brush(
                self._backbone,
                edit.shots(shots),
                recipe,
                name=f"{edit.name} {place.name}",
                folder=folder,
                watch=watch,
                report=clock.report,
                clip=self._clip,
            )
        except FloatingPointError as error:
            raise ModelError(f"{method} on {edit.name}: {error}: lower --learning-rate and --embedding-rate") from error
        file = brush.save(place.with_suffix(".safetensors"))
        step = clock.seconds_per_step
        return brush, {
            "seconds_step": step,
            "seconds_sample": None if step is None else step / (recipe.segments * recipe.batch),
            "peak_mib": peak_memory(self._backbone.device),
            "brush_mib": file.stat().st_size / 2**20,
            "initial_text": brush.header.initial_text,
        }

    def _editor(self, brush: "Brush") -> Editor:
        if brush.header.kind == "visii":
            return Visii(self._backbone, VisiiConfig(**self._canvas, chunk=self._config.chunk), brush=brush)
        config = InstructBrushConfig(**self._canvas, chunk=self._config.chunk)
        return InstructBrush(self._backbone, config, brush=brush)

    def _edit(self, editor: Editor, text: str, edit: BrushSet) -> Image:
        image = edit.test.before.to(self._backbone.device)
        return editor.edit(EditRequest(image=image, instructions=(Instruction(text=text),))).image.cpu()

    def _through_codec(self, image: Image) -> Image:
        def one(rows: slice) -> Image:
            latents = self._backbone.encode(image[rows].to(self._backbone.device))
            return self._backbone.decode(self._backbone.scale_latents(latents)).cpu()

        return torch.cat(in_chunks(one, len(image), chunk=self._config.chunk))


class _Clock:
    """Seconds of a step, the median over the slices of a run."""

    def __init__(self, tell: Report, *, skip: bool, now: Callable[[], float]) -> None:
        """Begin.

        Args:
            tell: told of every slice.
            skip: whether the first slice is left out, because steps of it may be an earlier run's.
            now: seconds since some moment.
        """
        self._tell, self._skip, self._now = tell, skip, now
        self._step, self._time = 0, now()
        self._found: list[float] = []

    def report(self, progress: OptimizeProgress) -> None:
        """Take note of a slice."""
        now = self._now()
        if progress.step > self._step and not self._skip:
            self._found.append((now - self._time) / (progress.step - self._step))
        self._skip, self._step, self._time = False, progress.step, now
        self._tell(progress.step, progress.steps)

    @property
    def seconds_per_step(self) -> float | None:
        """None where no whole slice was seen."""
        return statistics.median(self._found) if self._found else None


def _to_json(value: Any) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _read(place: Path, settings: Mapping[str, object]) -> MethodRun | None:
    """What is kept of a run with these settings; None = nothing."""
    record, pictures = place.with_suffix(".json"), place.with_suffix(".edited.safetensors")
    if not record.is_file() or not pictures.is_file():
        return None
    stored = read_json(record, hint=_HINT, error=InputError)
    if stored.get("settings") != settings:
        return None
    return MethodRun(edited=load_file(pictures)["edited"], costs=stored["costs"])
