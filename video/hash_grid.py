"""Hash grids: learned numbers at the corners of cells of many sizes, interpolated to any point of [0, 1]^d.

Coarse levels keep the numbers of every corner. Fine ones share a table in which a hash of the corner says where to
look, and leave it to the network that reads them to tell apart the corners that meet there.

Source: Instant-NGP (arXiv 2201.05989), section 3, as CoDeF (arXiv 2308.07926) uses it.
"""

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..editors import InputError, MissingExtraError
from .encodings import checked_weights

_PRIMES = (1, 2654435761, 805459861)
"""What the coordinates of a corner are multiplied by before they are hashed: Instant-NGP, Eq. 4."""
_START = 1e-4
"""Hash tables begin uniformly within this distance of 0."""


@dataclass(frozen=True, kw_only=True)
class HashGridConfig:
    """Sizes of a hash grid; the defaults are CoDeF's for deformations."""

    levels: int = 16
    """How many resolutions, in [1, 32]."""
    features: int = 2
    """Learned numbers at each corner, at least 1."""
    table_size: int = 2**19
    """Most corners a level keeps, a power of two; levels that have more of them are hashed."""
    base_resolution: int = 16
    """Cells along each axis at the coarsest level, at least 1."""
    growth: float = 1.38
    """How much finer each level is than the one before, in [1, 4]."""
    kernel: Literal["torch", "tiny-cuda-nn"] = "torch"
    """`torch` runs everywhere; `tiny-cuda-nn` is faster, needs a GPU and that package, and gives other numbers."""

    def __post_init__(self) -> None:
        for name, low, high in (("levels", 1, 32), ("features", 1, 64), ("base_resolution", 1, 2**20)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {getattr(self, name)}")
        if self.table_size < 1 or self.table_size & (self.table_size - 1):
            raise ValueError(f"table_size must be a power of two, got {self.table_size}")
        if not 1 <= self.growth <= 4:
            raise ValueError(f"growth must be in [1, 4], got {self.growth:g}")
        if self.resolutions[-1] > 2**20:
            # Of the 24 bits of a coordinate, too few would be left to interpolate with.
            raise ValueError(f"growth must leave at most 2**20 cells at the finest level, got {self.growth:g}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Cells along each axis at every level. Source: Instant-NGP, Eq. 2."""
        return tuple(int(self.base_resolution * self.growth**level) for level in range(self.levels))

    @property
    def outputs(self) -> int:
        """Features of a point, of all levels together."""
        return self.levels * self.features

    def limited(self, cells: int) -> "HashGridConfig":
        """As many levels, which grow so much slower that the finest one has no more cells along an axis than this."""
        if self.resolutions[-1] <= cells:
            return self
        base = min(self.base_resolution, cells)
        return replace(self, base_resolution=base, growth=(cells / base) ** (1 / max(1, self.levels - 1)))


class HashGrid(nn.Module):
    """A hash grid in plain torch, over 2 or 3 axes.

    Levels are looked up one after the other: a single gather for all of them was measured and takes two to five times
    as long on a CPU, because the tables of one level fit its cache and those of all do not.
    """

    def __init__(self, config: HashGridConfig, dim: int, *, generator: torch.Generator | None = None) -> None:
        """A grid of numbers close to 0.

        Args:
            config: sizes; its `kernel` is not looked at.
            dim: axes, 2 or 3.
            generator: source of the numbers; None = torch's own.

        Raises:
            InputError: if there are other than 2 or 3 axes.
        """
        super().__init__()
        _check_axes(dim)
        self.config, self.dim = config, dim
        corners = [(cells + 1) ** dim for cells in config.resolutions]
        self.is_dense = tuple(count <= config.table_size for count in corners)
        self.rows = tuple(min(count, config.table_size) for count in corners)
        table = torch.empty(sum(self.rows), config.features).uniform_(-_START, _START, generator=generator)
        self.table = nn.Parameter(table)

    def forward(
        self, points: Float[Tensor, "points dim"], level_weights: Float[Tensor, " levels"] | None = None
    ) -> Float[Tensor, "points features"]:
        """Features of points, level by level; those of levels of weight 0 are 0 and are not looked up.

        While all levels have weight 0, the table takes no part, and its gradient stays None.

        Args:
            points: in [0, 1]; what lies outside gets the features of the border.
            level_weights: what the features of each level are multiplied by (`anneal_weights`); not differentiated. On
                the CPU they cost no wait for the GPU. None = 1.

        Raises:
            InputError: if points have other axes than the grid, or weights are not one per level.
        """
        weights = checked_weights(points, self.dim, level_weights, self.config.levels)
        axes = points.clamp(0, 1).t().contiguous()
        found = list[Tensor]()
        # One split has one backward pass; a slice per level would fill a gradient as large as the table for each.
        for level, table in enumerate(self.table.split(self.rows)):
            if weights[level] == 0:
                found.append(points.new_zeros(len(points), self.config.features))
                continue
            corners, shares = self._corners(axes, level)
            values = table.index_select(0, corners.flatten()).unflatten(0, corners.shape)
            found.append((values * (shares * weights[level])[..., None]).sum(0))
        return torch.cat(found, 1)

    def _corners(
        self, axes: Float[Tensor, "dim points"], level: int
    ) -> tuple[Int[Tensor, "corners points"], Float[Tensor, "corners points"]]:
        """Rows of the corners around each point in a level's table, and their shares of the interpolation."""
        cells, dense = self.config.resolutions[level], self.is_dense[level]
        places = axes * cells
        # On the far border a point belongs to the last cell. What is not a number has to come out as such, in the loss,
        # and not as a row that the table does not have.
        first = places.detach().floor().clamp(max=cells - 1).nan_to_num(0)
        inside = places - first
        rows, shares = torch.zeros_like(first[:1], dtype=torch.int64), torch.ones_like(inside[:1])
        for axis in range(self.dim):
            factor = (cells + 1) ** axis if dense else _PRIMES[axis]
            # Instant-NGP multiplies modulo 2**32. Nothing overflows here, and the low bits, which are kept, are equal.
            near = first[axis].long() * factor
            both = torch.stack([near, near + factor])[:, None]
            rows = both + rows if dense else (both & (self.config.table_size - 1)) ^ rows
            shares = torch.stack([1 - inside[axis], inside[axis]])[:, None] * shares
            rows, shares = rows.flatten(0, 1), shares.flatten(0, 1)
        return rows, shares


class FastHashGrid(nn.Module):
    """A hash grid of tiny-cuda-nn, on a GPU, which is used like `HashGrid`; `fast_hash_grid` makes one.

    Its numbers are its own: cells are shifted by half a cell and reach beyond the border, and tables are laid out in
    another order. Fits with the two agree in quality, not in bits, and neither can go on with the table of the other.
    """

    def __init__(self, encoding: nn.Module, config: HashGridConfig, dim: int) -> None:
        """Hold an encoding of tiny-cuda-nn."""
        super().__init__()
        self.encoding, self.config, self.dim = encoding, config, dim

    def forward(
        self, points: Float[Tensor, "points dim"], level_weights: Float[Tensor, " levels"] | None = None
    ) -> Float[Tensor, "points features"]:
        """Features of points, as `HashGrid.forward` gives them, though levels of weight 0 are looked up too.

        Args:
            points: in [0, 1]; what lies outside gets the features of the border.
            level_weights: what the features of each level are multiplied by; None = 1.

        Raises:
            InputError: if points have other axes than the grid, or weights are not one per level.
        """
        weights = checked_weights(points, self.dim, level_weights, self.config.levels)
        scale = torch.tensor(weights, dtype=points.dtype, device=points.device)
        return self.encoding(points.clamp(0, 1)) * scale.repeat_interleave(self.config.features)


def fast_hash_grid(config: HashGridConfig, dim: int, *, generator: torch.Generator | None = None) -> FastHashGrid:
    """A hash grid that tiny-cuda-nn computes.

    Args:
        config: sizes; tiny-cuda-nn takes 1, 2, 4 or 8 features.
        dim: axes, 2 or 3.
        generator: source of the seed of its numbers; None = torch's own.

    Raises:
        InputError: if there are other than 2 or 3 axes.
        MissingExtraError: if tiny-cuda-nn is not installed, or finds no GPU that it was built for.
    """
    _check_axes(dim)
    try:
        tinycudann = import_module("tinycudann")
    except (ImportError, OSError) as error:
        # OSError is what it raises where it finds no GPU.
        raise MissingExtraError(
            "tinycudann",
            purpose=f"the hash kernel tiny-cuda-nn ({error})",
            install="pip install git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch",
        ) from error
    encoding = tinycudann.Encoding(
        dim,
        {
            "otype": "HashGrid",
            "n_levels": config.levels,
            "n_features_per_level": config.features,
            "log2_hashmap_size": config.table_size.bit_length() - 1,
            "base_resolution": config.base_resolution,
            "per_level_scale": config.growth,
            "interpolation": "Linear",
        },
        seed=int(torch.randint(2**31 - 1, (), generator=generator)),
        # Its default is half precision, in which offsets of less than a pixel are lost.
        dtype=torch.float32,
    )
    return FastHashGrid(encoding, config, dim)


def make_hash_grid(
    config: HashGridConfig, dim: int, *, generator: torch.Generator | None = None
) -> HashGrid | FastHashGrid:
    """The hash grid that a config asks for.

    Args:
        config: sizes and kernel.
        dim: axes, 2 or 3.
        generator: source of its first numbers; None = torch's own.

    Raises:
        MissingExtraError: if it asks for tiny-cuda-nn where that cannot run.
    """
    if config.kernel == "tiny-cuda-nn":
        return fast_hash_grid(config, dim, generator=generator)
    return HashGrid(config, dim, generator=generator)


def _check_axes(dim: int) -> None:
    if dim not in {2, 3}:
        raise InputError(f"hash grids have 2 or 3 axes, got {dim}: choose one of the two")
