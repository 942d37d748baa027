"""`--pipeline.dry-run K`: edit a few views, train a few steps, and say what the whole run would take.

Nothing of it stays but the strips: weights, optimisers and random state are what they were before, and no checkpoint
is written.
"""

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from nerfstudio.engine.callbacks import TrainingCallbackLocation

from ..editors import MaskeditError, PeakMemory, wait_for
from .carrier import EditWork, NoEdits
from .edits import SceneEdits, format_duration

WARM_UP, MEASURED = 2, 8
"""Training steps before those that are measured, and those."""
PATIENCE = 20.0
"""Seconds after which no more steps are measured; one is in any case."""


@dataclass(frozen=True, kw_only=True)
class EditCost:
    """What editing takes."""

    strips: tuple[str, ...]
    """Files, relative to the session; for a view in which nothing was found, why."""
    loading: float
    """Seconds until the first view could be edited: weights, language, and masks that are found for all at once."""
    seconds: float
    """Of one view; the first batch, which is slower, counts only where it is the only one."""
    peak: int | None
    """Most memory in bytes; None = the system does not tell."""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a training step takes."""

    seconds: float
    peak: int | None
    """Most memory in bytes, an editor that is loaded included."""
    grown: int
    """How much of it is gone again after the step."""


class DryRun:
    """Measures a run that is set up.

    Args:
        trainer: nerfstudio's, with its pipeline, optimisers and callbacks.
        train_iteration: one training step, edits left out.
    """

    def __init__(self, trainer: Any, train_iteration: Callable[[int], object]) -> None:
        self.trainer, self.pipeline, self._train = trainer, trainer.pipeline, train_iteration
        self.edits: SceneEdits = trainer.pipeline.edits

    def edit(self, count: int) -> EditCost:
        """Edit some views spread over the scene, as many at a time as the run will.

        Args:
            count: how many at least, since only full batches take the memory of the run's; all, if there are fewer.
        """
        edits, batch, views = self.edits, self.edits.schedule.count, self.edits.schedule.views
        count = min(-(-count // batch) * batch, views)
        settings = edits.settings_at(0)
        works: list[EditWork] = []
        for first in range(0, count, batch):
            numbers = range(first, min(first + batch, count))
            turns = [edits.schedule.turn(number, step=len(works)) for number in numbers]
            spread = tuple(replace(turn, view=turn.index * views // count) for turn in turns)
            works.append(EditWork(turns=spread, settings=settings))
        memory = PeakMemory(self.pipeline.editor_device)
        started = time.monotonic()
        edits.load_editor(settings)
        edits.plan_ahead(works[0])
        loading = time.monotonic() - started
        strips: list[str] = []
        seconds: list[float] = []
        for work in works:
            started = time.monotonic()
            records = edits.run(work)
            seconds.append((time.monotonic() - started) / len(records))
            strips += [record.strip or f"{record.photo}: {record.reason}" for record in records]
        counted = seconds[1:] or seconds
        return EditCost(strips=tuple(strips), loading=loading, seconds=sum(counted) / len(counted), peak=memory.stop())

    def train(self) -> StepCost:
        """Train a few steps and take them back.

        Raises:
            ModelError: if what the losses need is missing.
        """
        self.pipeline.scene_model.load_perceptual()
        device, first = self.pipeline.device, self.edits.session.edit_start
        resident = PeakMemory(device).stop() or 0
        memory = PeakMemory(device)
        seconds: list[float] = []
        with exactly_restored(self.trainer):
            self.pipeline.carrier = NoEdits()
            self.pipeline.train()
            began = time.monotonic()
            for number in range(WARM_UP + MEASURED):
                wait_for(device)
                started = time.monotonic()
                self._step(first + number)
                wait_for(device)
                seconds.append(time.monotonic() - started)
                if time.monotonic() - began > PATIENCE and number > 0:
                    break
        counted = seconds[WARM_UP:] or seconds[-1:]
        peak = memory.stop()
        return StepCost(seconds=sum(counted) / len(counted), peak=peak, grown=max(0, (peak or 0) - resident))

    def _step(self, step: int) -> None:
        places = [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION]
        # What comes after a step splits Gaussians, which belongs to no single step.
        if self.pipeline.config.scene_kind == "nerfacto":
            places.append(TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        for callback in self.trainer.callbacks:
            callback.run_callback_at_location(step, location=places[0])
        self._train(step)
        for place in places[1:]:
            for callback in self.trainer.callbacks:
                callback.run_callback_at_location(step, location=place)

    def describe(self, edit: EditCost, step: StepCost | MaskeditError, edit_steps: int) -> tuple[str, ...]:
        """What was found out, in a few lines.

        Args:
            edit: what editing takes.
            step: what a training step takes, or why that is not known.
            edit_steps: of the whole run.
        """
        schedule, session = self.edits.schedule, self.edits.session
        lines = [f"Dry run: {len(edit.strips)} of {schedule.views} views edited (before | mask | after in the strips)"]
        lines += [f"  {session.root / strip if strip.endswith('.png') else strip}" for strip in edit.strips]
        lines.append(
            f"  one edited view     {edit.seconds:.2f} s, after {edit.loading:.1f} s to load and plan"
            f"{_memory(edit.peak)}"
        )
        planned = schedule.planned(edit_steps)
        if isinstance(step, MaskeditError):
            lines.append(f"  one training step   not measured: {step}")
            lines.append(f"  {planned} edits        about {format_duration(planned * edit.seconds)}")
            return tuple(lines)
        lines.append(f"  one training step   {step.seconds:.3f} s{_memory(step.peak)}")
        steps = edit_steps + session.edit_start - session.start_step
        whole = edit.loading + planned * edit.seconds + steps * step.seconds
        lines.append(f"  the whole run       {planned} edits, {steps} steps: about {format_duration(whole)}")
        lines.append(f"  --pipeline.edit-beside True   {self._beside(edit, step, edit_steps, steps)}")
        return tuple(lines)

    def _beside(self, edit: EditCost, step: StepCost, edit_steps: int, steps: int) -> str:
        planned = self.edits.schedule.planned(edit_steps)
        time_to_edit = max(0.0, edit_steps * step.seconds - edit.loading)
        made = min(planned, 1 + int(time_to_edit / max(edit.seconds, 1e-9)))
        weights = self.pipeline.scene_model.parameters()
        replica = sum(each.numel() * each.element_size() for each in weights)
        # On one device both work at a time; what the scene itself takes is in either figure.
        together = None if edit.peak is None else max(edit.peak, step.peak or 0) + step.grown + replica
        text = f"{made} of the {planned} edits, {steps} steps: about {format_duration(steps * step.seconds)}"
        return f"{text} with the editor on a device of its own{_memory(together, ' on one device')}"


def _memory(size: int | None, where: str = "") -> str:
    return "" if size is None else f", at most {size / 1e9:.1f} GB{where}"


@contextmanager
def exactly_restored(trainer: Any) -> Iterator[None]:
    """Take back what training does: weights, optimisers, schedules, sampler and random state, bit for bit.

    Args:
        trainer: nerfstudio's, set up; what trains must keep its shapes.
    """
    pipeline, optimizers = trainer.pipeline, trainer.optimizers
    kept = {
        # In main memory, so that the peak of the device's is that of training.
        "model": {name: value.detach().to("cpu", copy=True) for name, value in pipeline.model.state_dict().items()},
        "optimizers": {name: copy.deepcopy(each.state_dict()) for name, each in optimizers.optimizers.items()},
        "schedulers": {name: copy.deepcopy(each.state_dict()) for name, each in optimizers.schedulers.items()},
        "scaler": trainer.grad_scaler.state_dict(),
        "training": copy.deepcopy(pipeline.scene_model.training_state()),
    }
    carrier, is_training = pipeline.carrier, pipeline.training
    plain, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        pipeline.carrier = carrier
        pipeline.train(is_training)
        with torch.no_grad():
            # Not `load_state_dict`, which splatfacto takes for the end of its training.
            for name, value in pipeline.model.state_dict().items():
                value.copy_(kept["model"][name])
        for name, each in optimizers.optimizers.items():
            each.load_state_dict(kept["optimizers"][name])
            each.zero_grad(set_to_none=True)
        for name, each in optimizers.schedulers.items():
            each.load_state_dict(kept["schedulers"][name])
        trainer.grad_scaler.load_state_dict(kept["scaler"])
        pipeline.scene_model.restore_training_state(trainer.step - 1, kept["training"])
        random.setstate(plain)
        np.random.set_state(numbers)  # noqa: NPY002
