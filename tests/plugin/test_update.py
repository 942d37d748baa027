"""The schedule of edits: cyclic, counted, and a function of the seed."""

from dataclasses import replace

import pytest

from maskedit.editors import InputError
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
