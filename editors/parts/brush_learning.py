"""Learning a brush from before/after pairs, in slices that resume, with an eye on pairs that are held out.

The loop is that of `core/optimize.py`, at a constant rate and without clipping, as published. At the end of every slice
the state is on disk, pairs that are held out are measured, and whoever watches gets the brush as it is; a run that is
killed goes on from its last slice and ends the same. The brush is the best by the pairs held out, where there are any.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor

from ..core.backbone import Backbone
from ..core.errors import InputError, SessionError
from ..core.files import read_json, write_atomic, write_json
from ..core.optimize import OptimizeConfig, OptimizeProgress, optimize
from .brush import Brush, Rows, load_brush
from .brush_clip import ClipScorer
from .brush_direction import EditDirection
from .brush_loss import BrushLoss
from .brush_options import BrushRecipe, WatchConfig
from .brush_pairs import BrushPairs
from .brush_rows import begin_brush, brush_prompt

_HINT = "choose another --out"
_TIMES_HELD_OUT = 8
"""Draws of each segment from the pairs held out; always the same, so that their losses compare."""


@dataclass(frozen=True, kw_only=True)
class BrushProgress:
    """Where the learning stands at the end of a slice."""

    step: int
    steps: int
    curve: Float[Tensor, "taken segments"]
    """Loss of each segment at every step so far."""
    held_out: Mapping[int, float]
    """Mean loss of the pairs held out by step."""
    brush: Brush
    """As it is now."""
    best_step: int
    """The step whose tensors are the result so far."""


def learn_brush(
    backbone: Backbone,
    pairs: BrushPairs,
    recipe: BrushRecipe,
    *,
    name: str,
    folder: Path | None = None,
    held_out: BrushPairs | None = None,
    watch: WatchConfig | None = None,
    clip: ClipScorer | None = None,
    report: Callable[[OptimizeProgress], None] | None = None,
    look: Callable[[BrushProgress], None] | None = None,
) -> Brush:
    """Learn a brush.

    Args:
        backbone: the checkpoint; it stays as it is.
        pairs: what to learn from.
        recipe: how.
        name: what the brush is to be called in requests.
        folder: where the state is kept, to go on after an interruption; None = nowhere.
        held_out: pairs that are only measured.
        watch: how often.
        clip: tells where the edit leads, read where the recipe weighs that; its text encoder is the checkpoint's own.
        report: told of every step's loss, some steps late.
        look: told at the end of every slice.

    Raises:
        InputError: if there is nothing to learn, no pair shows an edit, there is no CLIP where one is needed, or the
            folder cannot be written.
        ModelError: if CLIP does not fit the checkpoint.
        SessionError: if the folder belongs to other pairs or another recipe.
        FloatingPointError: if the loss is not finite.
    """
    backbone.require("instruct-pix2pix", recipe.kind)
    pairs.require_change()
    start = begin_brush(backbone, recipe, name=name)
    if not start.header.rows:
        raise InputError("expected at least one learned token, got none: pass --rows 1 or more, or a longer text")
    if recipe.direction_weight and clip is None:
        raise InputError(
            f"expected a CLIP for a direction_weight of {recipe.direction_weight:g}, got none: pass --clip NAME, or "
            "--direction-weight 0"
        )
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        run = _Learning(backbone, start, pairs, recipe, Path(place), held_out, watch or WatchConfig(), clip)
        return run.go(report, look)


class _Learning:
    """One run: its tensors, its loss, and what of it is on disk."""

    def __init__(
        self,
        backbone: Backbone,
        start: Brush,
        pairs: BrushPairs,
        recipe: BrushRecipe,
        folder: Path,
        held_out: BrushPairs | None,
        watch: WatchConfig,
        clip: ClipScorer | None,
    ) -> None:
        self.header = replace(start.header, pairs=len(pairs.names))
        self.recipe, self.folder, self.watch, self.count = recipe, folder, watch, len(pairs.names)
        device = backbone.device
        self.parameters = {n: rows.to(device).requires_grad_() for n, rows in start.tensors.items()}

        def loss_of(some: BrushPairs) -> BrushLoss:
            before, after = some.before.to(device), some.after.to(device)
            direction = None
            if clip is not None and recipe.direction_weight:
                _, embeds = brush_prompt(start.header, (), backbone)
                first = start.header.first_row
                direction = EditDirection(clip, embeds, first_row=first, before=before, after=after)
            return BrushLoss(
                backbone, start.header, self.parameters, recipe, before=before, after=after, direction=direction
            )

        self.loss = loss_of(pairs)
        self.check = None if held_out is None else loss_of(held_out)
        judge = clip.name if clip is not None and recipe.direction_weight else ""
        self.held_out: dict[int, float] = {}
        settings = recipe.settings() | {"fingerprint": start.header.fingerprint, "clip": judge}
        self.settings = json.loads(json.dumps(settings | {"pairs": _mark(pairs), "held out": _mark(held_out)}))
        self._read()

    def go(
        self,
        report: Callable[[OptimizeProgress], None] | None,
        look: Callable[[BrushProgress], None] | None,
    ) -> Brush:
        """Learn to the end, or until the pairs held out get no better."""
        step, every = 0, self.watch.every
        while True:
            target = min(self.recipe.steps, (step // every + 1) * every)
            step, average = optimize(
                self.parameters,
                self.loss,
                self._optimizer(target),
                state_path=self.folder / "state.safetensors",
                save_every=every,
                report=lambda progress: self._report(progress, report),
                report_every=every,
            )
            brush = self._brush(step, average)
            self._measure(step, brush)
            if look is not None:
                look(self._progress(step, brush))
            if step >= self.recipe.steps or self._is_over(step):
                break
        best = self._best_step(step)
        return brush if best == step else load_brush(self.folder / "best.safetensors")

    def _optimizer(self, target: int) -> OptimizeConfig:
        return OptimizeConfig(
            steps=target,
            learning_rate=self.recipe.learning_rate,
            final_share=1.0,
            warmup_steps=0,
            weight_decay=self.recipe.weight_decay,
            max_grad_norm=math.inf,
            ema_decay=self.recipe.ema_decay if self.recipe.keep == "ema" else 0.0,
            seed=self.recipe.seed,
        )

    def _report(self, progress: OptimizeProgress, report: Callable[[OptimizeProgress], None] | None) -> None:
        """Keep what the loss remembers; the state is written after this, so that it never runs ahead."""
        kept = {"curve": self.loss.curve, "lowest_loss": self.loss.lowest_loss[None]}
        if self.recipe.keep == "lowest":
            kept |= {f"lowest.{name}": value for name, value in self.loss.lowest.items()}
        data = save({name: value.detach().cpu().contiguous() for name, value in kept.items()})
        write_atomic(self.folder / "losses.safetensors", lambda file: file.write(data), hint=_HINT, error=InputError)
        if report is not None:
            report(replace(progress, steps=self.recipe.steps))

    def _read(self) -> None:
        """Take up what an earlier run of the same pairs and recipe left.

        Raises:
            SessionError: if it was of others.
        """
        path, losses = self.folder / "run.json", self.folder / "losses.safetensors"
        if not path.is_file():
            write_json(path, {"settings": self.settings, "held out": {}}, hint=_HINT, error=InputError)
            return
        stored: dict[str, Any] = read_json(path, hint=f"{_HINT}, or remove {self.folder} to begin anew")
        differs = [key for key, value in self.settings.items() if stored["settings"].get(key) != value]
        if differs:
            raise SessionError(
                f"{self.folder} belongs to a run with other settings ({differs[0]}): {_HINT}, or remove that run if "
                "nobody needs it"
            )
        self.held_out = {int(step): loss for step, loss in stored["held out"].items()}
        if losses.is_file():
            kept = load_file(losses)
            taken = min(len(kept["curve"]), len(self.loss.curve))
            self.loss.curve[:taken] = kept["curve"][:taken].to(self.loss.curve.device)
            self.loss.lowest_loss = kept["lowest_loss"][0].to(self.loss.curve.device)
            for name in self.loss.lowest:
                if f"lowest.{name}" in kept:
                    self.loss.lowest[name] = kept[f"lowest.{name}"].to(self.loss.curve.device)

    def _brush(self, step: int, average: Mapping[str, Rows]) -> Brush:
        """The brush of a step, by the recipe's rule."""
        kept = self.loss.lowest if self.recipe.keep == "lowest" else average
        tensors = {name: value.detach().clone().cpu() for name, value in kept.items()}
        last = self.loss.curve[max(0, step - max(1, step // 10)) : step]
        losses = tuple(round(value, 6) for value in last.nanmean(0).tolist())
        return Brush(replace(self.header, learned_steps=step, losses=losses), tensors)

    def _measure(self, step: int, brush: Brush) -> None:
        """Measure the pairs held out with the brush as it would be kept, once for each slice."""
        if self.check is None or step in self.held_out:
            return
        now = {name: value.detach().clone() for name, value in self.parameters.items()}
        with torch.no_grad():
            self._set(brush.tensors)
            self.held_out[step] = float(self.check.measure(_TIMES_HELD_OUT).mean())
            self._set(now)
        if self._best_step(step) == step:
            brush.save(self.folder / "best.safetensors")
        content = {"settings": self.settings, "held out": self.held_out}
        write_json(self.folder / "run.json", content, hint=_HINT, error=InputError)

    def _set(self, tensors: Mapping[str, Rows]) -> None:
        for name, value in self.parameters.items():
            value.copy_(tensors[name])

    def _best_step(self, step: int) -> int:
        return min(self.held_out, key=lambda each: self.held_out[each]) if self.held_out else step

    def _is_over(self, step: int) -> bool:
        patience = self.watch.patience * self.watch.every
        return bool(patience) and bool(self.held_out) and step - self._best_step(step) >= patience

    def _progress(self, step: int, brush: Brush) -> BrushProgress:
        return BrushProgress(
            step=step,
            steps=self.recipe.steps,
            curve=self.loss.curve[:step].cpu(),
            held_out=dict(self.held_out),
            brush=brush,
            best_step=self._best_step(step),
        )


def _mark(pairs: BrushPairs | None) -> str:
    """What tells pairs from others."""
    if pairs is None:
        return ""
    digest = hashlib.sha1(usedforsecurity=False)
    for side in (pairs.before, pairs.after):
        digest.update(f"{tuple(side.shape)}".encode() + side.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
