"""A dry run measures, and leaves nothing changed but strips."""

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from maskedit.editors import ModelError
from maskedit.plugin.dry_run import DryRun, EditCost, StepCost, exactly_restored
from maskedit.plugin.trainer import MaskeditTrainer

Start = Callable[..., MaskeditTrainer]


def snapshot(trainer: Any) -> list[Any]:
    """Everything that training moves, as plain values."""
    tensors = dict(trainer.pipeline.state_dict())
    for name, optimizer in trainer.optimizers.optimizers.items():
        for key, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name} {key} {what}": value for what, value in state.items()}
    rates = [each.state_dict()["_last_lr"] for each in trainer.optimizers.schedulers.values()]
    drawn = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    kept = {name: torch.as_tensor(value).clone().tolist() for name, value in tensors.items()}
    return [kept, rates, drawn, trainer.pipeline.scene_model.training_state(), trainer.grad_scaler.state_dict()]


@pytest.mark.parametrize("trained", [0, 3])
def test_training_is_taken_back_bit_for_bit(start: Start, trained: int) -> None:
    trainer = start(reconstruct_steps=0, dry_run=1)
    for step in range(trained):
        super(MaskeditTrainer, trainer).train_iteration(step)
    trainer.optimizers.zero_grad_all()
    before = snapshot(trainer)
    with exactly_restored(trainer):
        for step in range(trained, trained + 2):
            super(MaskeditTrainer, trainer).train_iteration(step)
        torch.rand(3)
        assert snapshot(trainer)[0] != before[0]
    assert snapshot(trainer) == before
    assert all(p.grad is None for p in trainer.pipeline.parameters())


def test_a_dry_run_says_what_the_run_will_take(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = start(dry_run=2, reconstruct_steps=0, masks="every-edit")
    before = snapshot(trainer)
    shown = trainer.pipeline.carrier
    trainer.train()
    assert snapshot(trainer)[:2] == before[:2]
    assert trainer.pipeline.carrier is shown
    assert trainer.session is not None
    assert [r.view for r in trainer.session.records] == [0, 2]
    said = " ".join(capsys.readouterr().out.split())
    assert "Dry run: 2 of 4 views edited" in said
    for pattern in (
        r"one edited view \d+\.\d\d s, after \d+\.\d s to load and plan",
        r"one training step \d+\.\d{3} s",
        r"the whole run 4 edits, 8 steps: about \d+ min \d\d s",
        r"--pipeline.edit-beside True \d of the 4 edits, 8 steps: about",
    ):
        assert re.search(pattern, said), (pattern, said)


@pytest.mark.parametrize("options", [{"masks": "lifted"}, {"schedule": "sweeps", "sweep_every": 6}])
def test_masks_and_schedules_of_all_kinds_are_tried(
    start: Start, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    start(dry_run=1, reconstruct_steps=0, **options).train()
    assert "one training step" in capsys.readouterr().out


def test_splats_are_tried(start: Start, splats: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = start(config=splats(dry_run=1, reconstruct_steps=0))
    before = {name: value.clone() for name, value in trainer.pipeline.state_dict().items()}
    trainer.train()
    assert "s, at most" in capsys.readouterr().out
    after = trainer.pipeline.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_views_are_tried_in_the_batches_of_the_run(start: Start, paint: Any) -> None:
    editor = paint()
    trainer = start(editor, dry_run=1, edit_count=3, reconstruct_steps=0)
    run = DryRun(trainer, super(MaskeditTrainer, trainer).train_iteration)
    assert len(run.edit(1).strips) == 3
    assert [len(request.image) for request in editor.requests] == [3]
    assert [r.view for r in trainer.session.records] == [0, 1, 2]
    # Four views have one full batch and a rest.
    editor.requests.clear()
    assert len(run.edit(4).strips) == 4
    assert [len(request.image) for request in editor.requests] == [3, 1]


def test_only_the_warm_edits_count(start: Start, paint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    editor = paint()
    editor.before = lambda request: time.sleep(2.0 if len(editor.requests) == 1 else 0)
    trainer = start(editor, dry_run=3, reconstruct_steps=0)
    cost = DryRun(trainer, super(MaskeditTrainer, trainer).train_iteration).edit(99)
    assert len(cost.strips) == 4
    assert cost.seconds < 2.0
    if cost.peak is not None:
        assert cost.peak > 1e8


@pytest.mark.parametrize(
    ("edit_seconds", "made", "whole", "beside"),
    [(0.5, 500, "8 min 20 s", "4 min 10 s"), (3.0, 84, "29 min 10 s", "4 min 10 s")],
)
def test_expected_times(start: Start, edit_seconds: float, made: int, whole: str, beside: str) -> None:
    trainer = start(reconstruct_steps=0, dry_run=1)
    run = DryRun(trainer, lambda step: None)
    edit = EditCost(strips=("a-strip.png", "1.png: no cube"), loading=0.0, seconds=edit_seconds, peak=None)
    lines = run.describe(edit, StepCost(seconds=0.25, peak=None, grown=0), 1000)
    assert lines[2].strip() == "1.png: no cube"
    assert lines[-2].endswith(f"500 edits, 1000 steps: about {whole}")
    assert f"{made} of the 500 edits, 1000 steps: about {beside} with the editor" in lines[-1]
    lines = run.describe(edit, ModelError("LPIPS needs weights"), 1000)
    assert "not measured: LPIPS needs weights" in lines[-2]
    assert len(lines) == 6


def test_memory_of_both_on_one_device(start: Start) -> None:
    trainer = start(reconstruct_steps=0, dry_run=1)
    edit = EditCost(strips=(), loading=0.0, seconds=1.0, peak=6 * 10**9)
    step = StepCost(seconds=1.0, peak=7 * 10**9, grown=2 * 10**9)
    lines = DryRun(trainer, lambda step: None).describe(edit, step, 8)
    assert "at most 6.0 GB" in lines[1]
    assert "at most 7.0 GB" in lines[2]
    assert lines[-1].endswith("at most 9.0 GB on one device")
