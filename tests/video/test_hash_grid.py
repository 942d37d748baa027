"""Hash grids: equal to a slow one written apart, continuous, with gradients only where somebody looked."""

import itertools
import sys

import numpy as np
import pytest
import torch

from maskedit.editors import InputError, MissingExtraError
from maskedit.video.encodings import Mlp
from maskedit.video.hash_grid import FastHashGrid, HashGrid, HashGridConfig, fast_hash_grid, make_hash_grid

# 3, 5, 10 and 20 cells: the first three levels are dense over 2 axes, the first two over 3.
SMALL = HashGridConfig(levels=4, features=3, table_size=256, base_resolution=3, growth=1.9)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_grid(dim: int) -> HashGrid:
    """A grid whose numbers are of unit variance, in double precision."""
    grid = HashGrid(SMALL, dim).double()
    torch.nn.init.normal_(grid.table, generator=seeded())
    return grid


def corner_row(corner: tuple[int, ...], cells: int, table_size: int) -> int:
    """Row of a corner within its level, in 32-bit arithmetic that wraps around."""
    if (cells + 1) ** len(corner) <= table_size:
        return sum(place * (cells + 1) ** axis for axis, place in enumerate(corner))
    with np.errstate(over="ignore"):
        mixed = np.uint32(0)
        for place, prime in zip(corner, (1, 2654435761, 805459861), strict=False):
            mixed ^= np.uint32(place) * np.uint32(prime)
    return int(mixed % np.uint32(table_size))


def slow_features(grid: HashGrid, point: list[float]) -> tuple[list[float], set[int]]:
    """Features of one point and the rows they come from, corner by corner."""
    table, found, touched, offset = grid.table.detach(), list[float](), set[int](), 0
    for level in range(SMALL.levels):
        cells = int(SMALL.base_resolution * SMALL.growth**level)
        first = [min(int(x * cells), cells - 1) for x in point]
        value = torch.zeros(SMALL.features, dtype=table.dtype)
        for steps in itertools.product((0, 1), repeat=len(point)):
            share = 1.0
            for x, start, step in zip(point, first, steps, strict=True):
                inside = x * cells - start
                share *= inside if step else 1 - inside
            corner = tuple(start + step for start, step in zip(first, steps, strict=True))
            row = offset + corner_row(corner, cells, SMALL.table_size)
            value += share * table[row]
            touched.add(row)
        found += value.tolist()
        offset += min((cells + 1) ** len(point), SMALL.table_size)
    return found, touched


@pytest.mark.parametrize("dim", [2, 3])
def test_features_equal_those_found_corner_by_corner(dim: int, tolerance) -> None:
    grid = small_grid(dim)
    assert grid.is_dense == ((True, True, True, False) if dim == 2 else (True, True, False, False))
    points = torch.rand((40, dim), generator=seeded(1), dtype=torch.float64)
    points[0], points[1], points[2] = 0.0, 1.0, 1 / 3
    expected = torch.tensor([slow_features(grid, point)[0] for point in points.tolist()], dtype=torch.float64)
    torch.testing.assert_close(grid(points), expected, **vars(tolerance(torch.float64)))


@pytest.mark.parametrize("dim", [2, 3])
def test_gradients_reach_only_touched_rows(dim: int) -> None:
    grid = small_grid(dim)
    points = torch.rand((3, dim), generator=seeded(1), dtype=torch.float64)
    grid(points).sum().backward()
    touched = set().union(*(slow_features(grid, point)[1] for point in points.tolist()))
    assert set(grid.table.grad.abs().sum(1).nonzero().flatten().tolist()) == touched
    assert len(touched) < len(grid.table) / 4


@pytest.mark.parametrize("dim", [2, 3])
def test_gradients_are_right(dim: int) -> None:
    grid = small_grid(dim)
    points = torch.rand((4, dim), generator=seeded(1), dtype=torch.float64, requires_grad=True)

    def features(points: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(grid, {"table": table}, points)

    assert torch.autograd.gradcheck(features, (points, grid.table), fast_mode=True)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("level", range(4))
def test_features_are_continuous_across_cell_borders(dim: int, level: int) -> None:
    grid = small_grid(dim)
    cells = SMALL.resolutions[level]
    borders = torch.arange(cells + 1, dtype=torch.float64) / cells
    points = torch.rand((cells + 1, dim), generator=seeded(1), dtype=torch.float64)
    points[:, 0] = borders
    aside = torch.zeros_like(points)
    aside[:, 0] = 1e-9
    # Unit values change by at most a few cells' worth per unit, and a jump would be of the order of 1.
    assert (grid(points + aside) - grid(points - aside)).abs().max() < 1e-6
    assert (grid(points + 0.2 / cells) - grid(points)).abs().max() > 0.05


def test_points_outside_get_the_border() -> None:
    grid = small_grid(2)
    outside = torch.tensor([[-0.3, 0.4], [1.7, 1.0], [0.2, -9.0]], dtype=torch.float64)
    assert torch.equal(grid(outside), grid(outside.clamp(0, 1)))


def test_what_is_not_a_number_comes_out_as_such() -> None:
    features = small_grid(2)(torch.tensor([[float("nan"), 0.5], [0.5, 0.5]], dtype=torch.float64))
    assert features[0].isnan().all()
    assert features[1].isfinite().all()


def test_levels_are_weighted() -> None:
    grid = small_grid(3)
    points = torch.rand((5, 3), generator=seeded(1), dtype=torch.float64)
    weighted = grid(points, torch.tensor([1.0, 0.5, 0.0, 0.25])).unflatten(1, (4, 3))
    whole = grid(points).unflatten(1, (4, 3))
    assert torch.equal(weighted, whole * torch.tensor([1.0, 0.5, 0.0, 0.25])[:, None])


def test_levels_of_no_weight_take_no_part() -> None:
    grid = small_grid(2)
    points = torch.rand((5, 2), generator=seeded(1), dtype=torch.float64)
    grid(points, torch.tensor([0.0, 1.0, 0.0, 0.0])).sum().backward()
    assert [bool(part.any()) for part in grid.table.grad.split(grid.rows)] == [False, True, False, False]
    silent = grid(points, torch.zeros(4))
    assert not silent.any()
    assert not silent.requires_grad


def test_the_published_sizes() -> None:
    config = HashGridConfig()
    assert config.resolutions[:6] == (16, 22, 30, 42, 58, 80)
    assert config.resolutions[-1] == 2005
    assert config.outputs == 32
    # 81**3 corners are more than 2**19, 59**3 are not.
    grid = HashGrid(config, 3, generator=seeded())
    assert grid.is_dense == (True,) * 5 + (False,) * 11
    assert grid.table.shape == (17**3 + 23**3 + 31**3 + 43**3 + 59**3 + 11 * 2**19, 2)
    assert grid.table.dtype == torch.float32
    assert 0.99e-4 < grid.table.abs().max() <= 1e-4
    assert grid.table.mean().abs() < 1e-7


def test_a_grid_can_be_limited_in_fineness() -> None:
    config = HashGridConfig(growth=1.44)
    limited = config.limited(640)
    assert limited.resolutions[0] == 16
    assert 638 <= limited.resolutions[-1] <= 640
    assert limited.outputs == config.outputs
    assert config.limited(config.resolutions[-1]) is config
    assert set(config.limited(7).resolutions) == {7}
    assert HashGridConfig(levels=1).limited(5).resolutions == (5,)


def test_a_generator_decides_and_no_other() -> None:
    before = torch.get_rng_state()
    tables = [HashGrid(SMALL, 2, generator=seeded(seed)).table for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_wrong_inputs_are_refused() -> None:
    grid = small_grid(2)
    with pytest.raises(InputError, match="2 coordinates, got 3"):
        grid(torch.rand((4, 3), dtype=torch.float64))
    with pytest.raises(InputError, match="4 level weights are expected, got 3"):
        grid(torch.rand((4, 2), dtype=torch.float64), torch.ones(3))
    with pytest.raises(InputError, match="2 or 3 axes, got 4"):
        HashGrid(SMALL, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": 0},
        {"levels": 33},
        {"features": 0},
        {"base_resolution": 0},
        {"table_size": 1000},
        {"table_size": 0},
        {"growth": 0.9},
        {"growth": 3.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HashGridConfig(**wrong)


def test_the_plain_kernel_is_the_default() -> None:
    assert isinstance(make_hash_grid(SMALL, 2), HashGrid)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_missing_kernel_is_named(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(MissingExtraError, match=r"needs the package tinycudann: install it with `pip install git\+"):
        make_hash_grid(HashGridConfig(kernel="tiny-cuda-nn"), dim)


def fit_rings(grid: HashGrid | FastHashGrid, device: str) -> float:
    """Mean squared error with which a grid and a network learn rings of growing frequency."""
    network = Mlp(grid.config.outputs, 32, 1, 1, generator=seeded()).to(device)
    points = torch.rand((4096, 2), generator=seeded(1)).to(device)
    truth = (60 * points.square().sum(1, keepdim=True)).sin()
    optimizer = torch.optim.Adam([*grid.parameters(), *network.parameters()], lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        (network(grid(points)) - truth).square().mean().backward()
        optimizer.step()
    return (network(grid(points)) - truth).square().mean().item()


def test_a_grid_lets_a_network_learn_fine_detail() -> None:
    # What a constant would leave over is 0.5.
    assert fit_rings(HashGrid(HashGridConfig(levels=8, table_size=2**12), 2, generator=seeded()), "cpu") < 0.02


@pytest.mark.gpu
def test_the_fast_kernel_agrees_in_shape_and_quality() -> None:
    pytest.importorskip("tinycudann")
    config = HashGridConfig(levels=8, table_size=2**12)
    fast = fast_hash_grid(config, 2, generator=seeded())
    points = torch.rand((100, 2), generator=seeded(1)).to("cuda", torch.float32).requires_grad_()
    weights = torch.tensor([1.0, 0.0] * 4)
    features = fast(points, weights)
    assert features.shape == (100, config.outputs)
    assert features.dtype == torch.float32
    assert not features.unflatten(1, (8, 2))[:, 1::2].any()
    features.square().sum().backward()
    assert points.grad.any()
    plain = fit_rings(HashGrid(config, 2, generator=seeded()).to("cuda"), "cuda")
    assert fit_rings(fast, "cuda") < max(0.02, 2 * plain)
