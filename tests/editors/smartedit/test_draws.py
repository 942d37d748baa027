"""Draws belong to a sample's number; how often each condition is dropped is the published share."""

import pytest
import torch

from maskedit.editors.smartedit.draws import Draws, draw_for, dropout_seed, first_sample

SHAPE = (4, 3, 2)


def test_draws_depend_on_the_number_and_the_seed_alone() -> None:
    first, again = draw_for(7, seed=1, shape=SHAPE), draw_for(7, seed=1, shape=SHAPE)
    assert first.noise.shape == SHAPE
    assert (first.level, first.drop, first.template) == (again.level, again.drop, again.template)
    assert torch.equal(first.noise, again.noise)
    for other in (draw_for(8, seed=1, shape=SHAPE), draw_for(7, seed=2, shape=SHAPE)):
        assert other.drop != first.drop
        assert not torch.equal(other.noise, first.noise)


def test_no_stage_and_no_run_meets_the_draws_of_another() -> None:
    stages = [first_sample(stage) for stage in ("1", "2a", "2b")]
    noises = [draw_for(first + n, seed=s, shape=SHAPE).noise for first in stages for n in range(3) for s in range(3)]
    assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 27
    seeds = {dropout_seed(first + n, seed=s) for first in stages for n in range(3) for s in range(3)}
    assert len(seeds) == 27


@pytest.mark.slow
def test_conditions_are_dropped_as_often_as_published() -> None:
    counts = dict.fromkeys([(False, False), (True, False), (True, True), (False, True)], 0)
    total = 100_000
    for number in range(total):
        counts[draw_for(number, seed=0, shape=(1, 1, 1)).is_dropped(0.05)] += 1
    # Four standard deviations of a share of 0.05 in 1e5 draws.
    for dropped in ((True, False), (True, True), (False, True)):
        assert counts[dropped] / total == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / total) ** 0.5)


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        (0.0, (True, False)),
        (0.049, (True, False)),
        (0.05, (True, True)),
        (0.099, (True, True)),
        (0.1, (False, True)),
        (0.149, (False, True)),
        (0.151, (False, False)),
        (0.99, (False, False)),
    ],
)
def test_one_draw_decides_both(drop: float, expected: tuple[bool, bool]) -> None:
    assert Draws(template=0.0, level=0.0, drop=drop, noise=torch.zeros(1, 1, 1)).is_dropped(0.05) == expected


def test_timesteps_cover_the_range_evenly_or_lean_to_noise() -> None:
    draws = [draw_for(number, seed=3, shape=(1, 1, 1)) for number in range(4000)]
    even = torch.tensor([d.timestep(1000) for d in draws], dtype=torch.float)
    leaning = torch.tensor([d.timestep(1000, high_noise=True) for d in draws], dtype=torch.float)
    assert 0 <= even.min() < 10
    assert 990 < even.max() <= 999
    assert even.mean().item() == pytest.approx(500, abs=20)
    assert leaning.mean().item() == pytest.approx(667, abs=20)


def test_every_template_is_drawn() -> None:
    drawn = {draw_for(number, seed=0, shape=(1, 1, 1)).template_of(30) for number in range(1000)}
    assert drawn == set(range(30))


def test_noise_is_standard_normal() -> None:
    noise = torch.stack([draw_for(number, seed=0, shape=(4, 8, 8)).noise for number in range(200)])
    assert noise.mean().abs() < 0.02
    assert noise.std().item() == pytest.approx(1, abs=0.02)
