"""The schedule of edits: cyclic, counted, and a function of the seed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from maskedit.editors import InputError
from maskedit.plugin.checkpoint import read_checkpoint
from maskedit.plugin.trainer import MaskeditTrainer
from maskedit.plugin.update import Draw, EditSchedule, seed_for

SCHEDULE = EditSchedule(rate=10, count=1, views=5, lower=0.02, upper=0.98, seed=0)
SWEEPS = replace(SCHEDULE, kind="sweeps", sweep_every=20)


def all_turns(schedule: EditSchedule, steps: int) -> list:
    return [turn for step in range(steps) for turn in schedule.turns(step)]


@pytest.mark.parametrize("steps", [1, 9, 10, 11, 95, 200])
@pytest.mark.parametrize(("rate", "count"), [(10, 1), (3, 2), (1, 5)])
def test_edits_are_counted_from_step_zero(steps: int, rate: int, count: int) -> None:
    schedule = replace(SCHEDULE, rate=rate, count=count)
    turns = all_turns(schedule, steps)
    assert len(turns) == count * -(-steps // rate) == schedule.planned(steps)
    assert [turn.index for turn in turns] == list(range(len(turns)))
    assert [turn.view for turn in turns] == [i % 5 for i in range(len(turns))]
    assert [turn.sweep for turn in turns] == [i // 5 for i in range(len(turns))]


def test_nothing_is_edited_before_step_zero() -> None:
    for schedule in (SCHEDULE, SWEEPS):
        assert not [turn for step in range(-40, 0) for turn in schedule.turns(step)]
        assert schedule.next_due(-3) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_sweep_edits_each_view_once_and_then_the_scene_trains_alone(count: int) -> None:
    schedule = replace(SWEEPS, count=count)
    turns = all_turns(schedule, 60)
    assert [turn.index for turn in turns] == list(range(15))
    assert [turn.view for turn in turns] == [0, 1, 2, 3, 4] * 3
    assert [turn.sweep for turn in turns] == [0] * 5 + [1] * 5 + [2] * 5
    # Sweeps begin at steps 0, 20 and 40 and take as many steps as they need.
    assert [turn.step for turn in turns] == [20 * (i // 5) + i % 5 // count for i in range(15)]
    assert max(len(schedule.turns(step)) for step in range(60)) == count


@pytest.mark.parametrize("kind", ["views", "sweeps"])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("every", [1, 2, 4, 7])
def test_the_plan_counts_what_is_done(kind: str, count: int, every: int) -> None:
    schedule = replace(SWEEPS, kind=kind, count=count, rate=every, sweep_every=every)
    for steps in range(40):
        turns = all_turns(schedule, steps)
        assert schedule.planned(steps) == len(turns)
        # In2n's invariant: the order is cyclic, whatever the steps.
        assert [turn.view for turn in turns] == [i % 5 for i in range(len(turns))]
        due = schedule.next_due(steps)
        assert schedule.turns(due)
        assert not [turn for step in range(steps, due) for turn in schedule.turns(step)]


def test_a_sweep_that_takes_longer_than_its_period_is_finished_first() -> None:
    turns = all_turns(replace(SWEEPS, sweep_every=3), 12)
    assert [(turn.step, turn.sweep) for turn in turns] == [(s, 0) for s in range(5)] + [(s, 1) for s in range(6, 11)]


def test_a_step_of_a_sweep_trains_on_what_it_edits() -> None:
    schedule = replace(SWEEPS, count=2)
    assert [schedule.focus(step) for step in range(-1, 5)] == [None, 0, 2, 4, None, None]
    assert schedule.focus(21) == 2
    assert schedule.edits_first
    assert not SCHEDULE.edits_first
    assert SCHEDULE.focus(0) is None


def test_the_published_run_has_three_sweeps() -> None:
    schedule = replace(SWEEPS, views=120, sweep_every=2500)
    assert schedule.planned(7500) == 3 * 120


def test_noise_levels_stay_inside_their_bounds_and_reach_both() -> None:
    levels = {t.noise_level for t in all_turns(replace(SCHEDULE, lower=0.30, upper=0.33), 2000)}
    assert levels == {n / 1000 for n in range(300, 331)}


def test_equal_bounds_fix_the_noise_level() -> None:
    assert {t.noise_level for t in all_turns(replace(SCHEDULE, lower=0.5, upper=0.5), 100)} == {0.5}


def test_draws_depend_on_the_seed_and_the_edit_alone() -> None:
    again = EditSchedule(rate=10, count=1, views=5, lower=0.02, upper=0.98, seed=0)
    assert again.turns(70) == SCHEDULE.turns(70)
    other = replace(SCHEDULE, seed=1)
    assert other.turns(70)[0].seed != SCHEDULE.turns(70)[0].seed
    turns = all_turns(SCHEDULE, 1000)
    assert len({t.seed for t in turns}) == len(turns)
    assert len({t.noise_level for t in turns}) > len(turns) // 2


def test_each_purpose_has_its_own_seeds() -> None:
    assert len({seed_for(0, draw, 3) for draw in Draw}) == len(Draw)
    assert seed_for(0, Draw.RAYS, 3) == seed_for(0, Draw.RAYS, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0}, "edit-rate"),
        ({"sweep_every": 0}, "sweep-every"),
        ({"count": 6}, "edit-count"),
        ({"count": 0}, "edit-count"),
        ({"lower": 0.9, "upper": 0.1}, "lower-bound"),
        ({"upper": 1.1}, "lower-bound"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SCHEDULE, **changes)


def sweeping(config: Any, folder: Any, steps: int = 8) -> Any:
    """A run whose sweeps begin at edit steps 0 and 5 and take 2 steps for 4 views."""
    run = config(folder, schedule="sweeps", sweep_every=5, edit_count=2)
    run.max_num_iterations, run.steps_per_save = steps, 1
    return run


def newest(trainer: MaskeditTrainer) -> Any:
    return read_checkpoint(max(trainer.checkpoint_dir.glob("*.ckpt")))


@pytest.mark.parametrize("steps", [1, 6])
def test_a_run_that_ends_inside_a_sweep_goes_on_inside_it(
    start: Callable[..., MaskeditTrainer], config: Any, tmp_path: Any, steps: int
) -> None:
    whole = start(config=sweeping(config, tmp_path / "whole"))
    whole.train()
    assert whole.session is not None
    turns = [(r.step, r.view, r.sweep) for r in whole.session.records]
    assert turns == [(s, v, s // 5) for s, v in zip((0, 0, 1, 1, 5, 5, 6, 6), (0, 1, 2, 3) * 2, strict=True)]
    start(config=sweeping(config, tmp_path / "parts", steps)).train()
    parts = start(config=sweeping(config, tmp_path / "parts"))
    parts.train()
    assert parts.session is not None
    first, second = newest(whole), newest(parts)
    assert first["step"] == second["step"] == 10
    assert all(torch.equal(first["pipeline"][name], second["pipeline"][name]) for name in first["pipeline"])
    for one, other in zip(whole.session.records, parts.session.records, strict=True):
        assert one.seed == other.seed
        assert torch.equal(whole.session.image_of(one), parts.session.image_of(other))


def test_an_undo_inside_a_sweep_takes_back_what_this_sweep_has_done(
    start: Callable[..., MaskeditTrainer], config: Any, tmp_path: Any
) -> None:
    # One step into the second sweep: views 0 and 1 show their second edit.
    trainer = start(config=sweeping(config, tmp_path, steps=6))
    trainer.train()
    trainer.step += 1
    data, session = trainer.pipeline.datamanager, trainer.session
    assert trainer.undo() == 2
    for view in range(4):
        assert torch.equal(data.shown(view), session.image_of(session.records[view]))
    assert trainer.undo() == 4
    assert all(torch.equal(data.shown(view), data.original(view)) for view in range(4))


def test_rays_of_a_step_in_a_sweep_see_its_edits(
    start: Callable[..., MaskeditTrainer], config: Any, tmp_path: Any
) -> None:
    trainer = start(config=sweeping(config, tmp_path, steps=1))
    data, seen = trainer.pipeline.datamanager, []
    draw = data.next_train

    def watch(step: int) -> Any:
        seen.append([not torch.equal(data.shown(view), data.original(view)) for view in range(4)])
        return draw(step)

    data.next_train = watch
    trainer.train()
    assert seen == [[False] * 4] * 3 + [[True, True, False, False]]


def test_noise_can_be_that_of_the_sweep() -> None:
    seeds = [turn.seed for turn in all_turns(replace(SCHEDULE, shares_noise=True), 150)]
    assert len(seeds) == 15
    assert [len(set(seeds[at : at + 5])) for at in (0, 5, 10)] == [1, 1, 1]
    assert len(set(seeds)) == 3
    levels = {turn.noise_level for turn in all_turns(replace(SCHEDULE, shares_noise=True), 50)}
    assert len(levels) == 5
