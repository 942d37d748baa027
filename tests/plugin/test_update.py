"""The schedule of edits: cyclic, counted, and a function of the seed."""

from dataclasses import replace

import pytest

from maskedit.editors import InputError
from maskedit.plugin.update import Draw, EditSchedule, seed_for

SCHEDULE = EditSchedule(rate=10, count=1, views=5, lower=0.02, upper=0.98, seed=0)


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
    assert not [turn for step in range(-40, 0) for turn in SCHEDULE.turns(step)]


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
        ({"count": 6}, "edit-count"),
        ({"count": 0}, "edit-count"),
        ({"lower": 0.9, "upper": 0.1}, "lower-bound"),
        ({"upper": 1.1}, "lower-bound"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SCHEDULE, **changes)
