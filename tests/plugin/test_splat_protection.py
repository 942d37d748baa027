"""Outside a region nothing changes, bit for bit: not by gradients, momentum, densification, culling or resets."""

from typing import Any

import pytest
import torch
from gsplat.strategy import DefaultStrategy
from torch.utils._python_dispatch import TorchDispatchMode

from maskedit.plugin.splat_protection import FrozenGaussians, RegionStrategy

COUNT = 24


def gaussians() -> tuple[Any, dict[str, torch.optim.Optimizer]]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"means": 3, "scales": 3, "quats": 4, "features_dc": 3, "opacities": 1}
    drawn = {name: torch.randn(COUNT, width, generator=generator) for name, width in shapes.items()}
    params: Any = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in drawn.items()})
    return params, {name: torch.optim.Adam([value], lr=0.1) for name, value in params.items()}


def train(params: Any, optimizers: Any, seed: int) -> None:
    torch.manual_seed(seed)
    for name, value in params.items():
        value.grad = torch.randn_like(value)
        optimizers[name].step()


def seen(seed: int) -> dict[str, Any]:
    """What a rasterisation reports, with large gradients for all."""
    torch.manual_seed(seed)
    means2d = torch.zeros(1, COUNT, 2)
    means2d.grad = torch.rand(1, COUNT, 2)
    radii = torch.randint(1, 30, (1, COUNT))
    return {
        "width": 16,
        "height": 16,
        "n_cameras": 1,
        "radii": radii,
        "means2d": means2d,
        "gaussian_ids": None,
    }


REGION = torch.arange(COUNT) % 3 == 0
STRATEGY: dict[str, Any] = {
    "grow_grad2d": 1e-6,
    "grow_scale3d": 0.8,
    "grow_scale2d": 0.2,
    "prune_opa": 0.65,
    "prune_scale3d": 2.0,
    "refine_scale2d_stop_iter": 100,
    "refine_start_iter": 1,
    "refine_every": 2,
    "reset_every": 6,
}


@pytest.mark.parametrize("has_moments", [True, False])
def test_an_optimiser_moves_the_region_alone(has_moments: bool) -> None:
    params, optimizers = gaussians()
    if has_moments:
        train(params, optimizers, 1)
    before = {name: value.detach().clone() for name, value in params.items()}
    moments = {
        name: {key: each.clone() for key, each in optimizers[name].state[value].items() if key != "step"}
        for name, value in params.items()
    }
    frozen = FrozenGaussians(params, optimizers, REGION)
    for step in range(3):
        train(params, optimizers, step)
        frozen.put_back(params, optimizers, REGION)
    for name, value in params.items():
        assert torch.equal(value[~REGION], before[name][~REGION])
        assert not (value[REGION] == before[name][REGION]).any()
        for key, kept in moments[name].items():
            assert torch.equal(optimizers[name].state[value][key][~REGION], kept[~REGION])
        if not has_moments:
            assert not optimizers[name].state[value]["exp_avg"][~REGION].any()
            assert optimizers[name].state[value]["exp_avg"][REGION].all()


class Selections(TorchDispatchMode):
    """Counts what needs to know how many of a mask are set, for which a program waits for its GPU."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [each for arg in args for each in (arg if isinstance(arg, list | tuple) else [arg])]
        self.count += any(isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in tensors)
        return func(*args, **(kwargs or {}))


def test_rows_are_looked_for_again_only_when_the_region_is_another() -> None:
    params, optimizers = gaussians()
    train(params, optimizers, 1)
    frozen = FrozenGaussians(params, optimizers, REGION)
    with Selections() as same:
        frozen.put_back(params, optimizers, REGION)
    assert same.count == 0
    # The Gaussians are in another order, as after densification.
    rows = torch.cat([torch.arange(COUNT)[~REGION], torch.arange(COUNT)[REGION]])
    expected = {name: value.detach()[~REGION].clone() for name, value in params.items()}
    for value in params.values():
        value.data = torch.randn_like(value)[rows]
    with Selections() as other:
        frozen.put_back(params, optimizers, REGION[rows])
    assert other.count > 0
    for name, value in params.items():
        assert torch.equal(value[: len(expected[name])], expected[name])


@pytest.mark.parametrize("step", [4, 8])
def test_densification_and_culling_happen_in_the_region_alone(step: int) -> None:
    params, optimizers = gaussians()
    train(params, optimizers, 1)
    before = {name: value.detach().clone() for name, value in params.items()}
    strategy = RegionStrategy(**STRATEGY)
    state = strategy.initialize_state()
    rows = strategy.refine(params, optimizers, state, REGION, step=step, info=seen(0))
    assert rows is not None
    counts = torch.bincount(rows, minlength=COUNT)
    assert (counts[~REGION] == 1).all()
    assert (counts[REGION] == 0).any() and (counts[REGION] > 1).any()
    outside = ~REGION[rows]
    for name, value in params.items():
        assert len(value) == len(rows)
        # Their order stays as well, so that what was kept of them can be put back.
        assert torch.equal(value[outside], before[name][~REGION])
    assert rows[outside].tolist() == torch.arange(COUNT)[~REGION].tolist()
    assert set(state) == {"grad2d", "count", "scene_scale", "radii"}


def test_without_a_region_it_is_gsplats_strategy() -> None:
    (params, optimizers), (others, their_optimizers) = gaussians(), gaussians()
    for one, two in ((params, optimizers), (others, their_optimizers)):
        train(one, two, 1)
    plain = DefaultStrategy(**STRATEGY)
    strategy = RegionStrategy.like(plain)
    states = strategy.initialize_state(), plain.initialize_state()
    for step in (3, 4):
        if step == 4:
            torch.manual_seed(0)
        rows = strategy.refine(params, optimizers, states[0], None, step=step, info=seen(0))
        assert (rows is None) == (step == 3)
        plain.step_post_backward(others, their_optimizers, states[1], step, seen(0))
    assert all(torch.equal(params[name], others[name]) for name in params if name != "means")
    assert len(params["means"]) == len(others["means"]) != COUNT
    assert torch.equal(states[0]["radii"], states[1]["radii"])


def test_a_reset_of_opacities_is_undone_outside() -> None:
    params, optimizers = gaussians()
    train(params, optimizers, 1)
    before = params["opacities"].detach().clone()
    frozen = FrozenGaussians(params, optimizers, REGION)
    strategy = RegionStrategy(**{**STRATEGY, "prune_opa": 0.001})
    strategy.refine(params, optimizers, strategy.initialize_state(), REGION, step=0, info=seen(0))
    assert (params["opacities"] < before - 1).all()
    frozen.put_back(params, optimizers, REGION)
    assert torch.equal(params["opacities"][~REGION], before[~REGION])
    assert (params["opacities"][REGION] < before[REGION] - 1).all()
