"""Runs with lifted masks and a protected scene: what changes, and that a kill changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import EditRequest, EditResult, EditTrace
from maskedit.plugin.checkpoint import find_checkpoint, read_checkpoint
from maskedit.plugin.lift_options import LiftConfig
from maskedit.plugin.session_records import Event
from maskedit.plugin.start import RunStopped

Start = Callable[..., Any]
LIFTED = {"masks": "lifted", "lift": LiftConfig(resolution=16, batch=3, threshold=0.05)}


@pytest.fixture
def config(config: Callable[..., Any]) -> Callable[..., Any]:
    """Configs of runs whose scene holds back light from its first step on, so that it can be voted about."""

    def build(*folder: Path, **pipeline: Any) -> Any:
        made = config(*folder, **pipeline)
        made.pipeline.model.average_init_density = 20.0
        return made

    return build


def pictures(trainer: Any) -> list[torch.Tensor]:
    data = trainer.pipeline.datamanager
    return [data.shown(view) for view in range(len(data.views))]


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return read_checkpoint(find_checkpoint(trainer.checkpoint_dir))["pipeline"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def files(trainer: Any) -> dict[str, bytes]:
    root = trainer.session.root
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("lifted/**/*.*"))}


@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_broken_run_resumes_to_the_same_result(
    start: Start, config: Any, paint: Any, tmp_path: Path, stop_at: int
) -> None:
    def prepare(folder: Path, editor: Any) -> Any:
        return start(editor, config=config(folder, protect=True, **LIFTED))

    whole = prepare(tmp_path / "whole", paint())
    whole.train()
    editor = paint()

    def stop(request: EditRequest) -> None:
        if len(editor.requests) == stop_at:
            raise KeyboardInterrupt

    editor.before = stop
    broken = prepare(tmp_path / "broken", editor)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    again = prepare(tmp_path / "broken", paint())
    again.train()
    assert files(again) == files(whole)
    assert all(torch.equal(one, other) for one, other in zip(pictures(again), pictures(whole), strict=True))
    assert same(weights(again), weights(whole))


def test_masks_are_lifted_before_the_first_edit_and_shared_by_all(start: Start, config: Any, paint: Any) -> None:
    editor = paint()
    trainer = start(editor, config=config(**LIFTED))
    trainer.train()
    records = trainer.session.records
    assert len(records) == 4
    assert all(record.masks[0].startswith("lifted/masks-") for record in records)
    assert trainer.pipeline.model._holder.get("hold") is None
    state = read_checkpoint(find_checkpoint(trainer.checkpoint_dir))
    assert not [name for name in state["pipeline"] if "hold" in name or "start" in name]


def test_protection_is_on_from_the_first_edit_and_off_while_reconstructing(start: Start, config: Any) -> None:
    trainer = start(config=config(protect=True, **LIFTED))
    losses: list[tuple[int, bool]] = []
    model = trainer.pipeline.model
    original = model.get_loss_dict

    def listen(*given: Any) -> Any:
        found = original(*given)
        losses.append((trainer.edit_step, "protect_loss" in found))
        return found

    model.get_loss_dict = listen
    trainer.train()
    assert {step: held for step, held in losses if step < 0} == {-3: False, -2: False, -1: False}
    assert all(held for step, held in losses if step >= 0)


class Identity:
    """Changes nothing, in the middle of the picture."""

    def plan(self, request: EditRequest) -> EditRequest:
        return request

    def edit(self, request: EditRequest) -> EditResult:
        masks = self.find_masks(request)
        return EditResult(image=request.preserved, mask=masks[0], masks=masks, trace=EditTrace(editor="identity"))

    def find_masks(self, request: EditRequest) -> tuple[torch.Tensor, ...]:
        mask = torch.zeros_like(request.image[:, :1])
        mask[..., 6:10, 6:10] = 1
        return tuple(mask if each.mask is None else each.mask for each in request.instructions)


def test_an_editor_that_changes_nothing_moves_a_protected_scene_less(start: Start, config: Any, tmp_path: Path) -> None:
    def moved(folder: str, **options: Any) -> float:
        trainer = start(Identity(), config=config(tmp_path / folder, **LIFTED, **options))
        trainer.train()
        stored = read_checkpoint(trainer.session.start_checkpoint)["pipeline"]
        after = weights(trainer)
        names = [name for name in after if name.startswith("_model.field.mlp")]
        return float(torch.stack([(after[name] - stored[name]).abs().mean() for name in names]).mean())

    assert moved("held", protect=True) < moved("free")


@pytest.fixture(params=["nerfacto", "splatfacto"])
def protected(request: pytest.FixtureRequest, start: Start, config: Any, splats: Any) -> Any:
    """A run of each kind of scene, and its editor."""
    options: dict[str, Any] = {"protect": True, **LIFTED}
    if request.param == "splatfacto":
        # The first sweep takes 4 steps, so that the reset comes between two of its edits.
        return lambda editor: start(editor, config=splats(**options))
    return lambda editor: start(editor, config=config(**options))


def test_a_scene_that_was_reset_is_protected_again(protected: Any, paint: Any) -> None:
    editor = paint(noise=0.0)
    trainer = protected(editor)
    editor.before = lambda request: trainer.requests.put(trainer.reset) if len(editor.requests) == 3 else None
    model, told = trainer.pipeline.model, list[tuple[int, bool]]()
    protect = model.protect

    def listen(votes: Any) -> None:
        told.append((trainer.session.generation, votes is not None))
        protect(votes)

    model.protect = listen
    trainer.train()
    assert told == [(0, True), (1, False), (1, True)]
    assert model._region is not None if hasattr(model, "_region") else "hold" in model._holder


def test_the_region_is_asked_for_once_as_long_as_nobody_does_anything(start: Start, config: Any, paint: Any) -> None:
    editor = paint()
    trainer = start(editor, config=config(protect=True, **LIFTED))
    session, asked = trainer.session, list[int]()
    assert session is not None
    pause = Event(step=5, kind="settings", value={"guidance_scale": 3.0})
    editor.before = lambda request: session.add_event(pause) if len(editor.requests) == 3 else None
    protection = trainer.pipeline._protection
    assert protection is not None
    key_at = protection._key_at
    protection._key_at = lambda step: asked.append(step) or key_at(step)
    trainer.train()
    assert asked == [0, 5]


def test_protection_needs_lifted_masks(start: Start, config: Any) -> None:
    with pytest.raises(RunStopped, match="protection needs one region for all views and masks are first-edit: pass"):
        start(config=config(protect=True))


def test_a_dry_run_without_a_scene_says_what_it_does_instead(
    start: Start, config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = start(config=config(reconstruct_steps=0, dry_run=2, **LIFTED))
    trainer.train()
    assert "there is no scene yet to lift masks through" in " ".join(capsys.readouterr().out.split())
    assert not (trainer.session.root / "lifted").exists()


def test_lifting_and_protection_must_be_the_same_to_go_on(start: Start, config: Any) -> None:
    start(config=config(**LIFTED)).train()
    with pytest.raises(RunStopped, match="lift: resolution = 16, this command has 24"):
        start(config=config(masks="lifted", lift=LiftConfig(resolution=24, batch=3, threshold=0.05)))
    with pytest.raises(RunStopped, match="protect = False, this command has True"):
        start(config=config(protect=True, **LIFTED))
