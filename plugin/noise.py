"""Start noise that is fixed to the surfaces of a scene, so that all views of a sweep see the same noise on them.

Noise drawn for each view alone makes the editor decide each view anew. Here space is cut into cells, each cell has a
Gaussian number that is a function of its place alone, and a latent pixel mixes the numbers of the cells in which its
surface points lie, as integral noise (How I Warped Your Noise, arXiv 2504.03072) mixes those of subpixels. With a_j the
weight of the points of a pixel that lie in cell j, its noise is

    sum_j a_j xi_j / sqrt(sum_j a_j^2),

which is standard normal whatever the weights are. Pixels beside each other share only the cells on their border.

The cells are as large as a share of what a latent pixel covers at the surface. That size differs between points and
views and changes smoothly, so cells come in sizes of powers of two, and a point counts in the two sizes around the
wanted one, as in a mipmap: two cameras at about the same distance from a point agree about its noise, whatever they and
the rest of a batch see elsewhere.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

_WORD = 0xFFFFFFFF
_FACTOR = 0x045D9F3B
"""Below 2^31, so that its product with a word of 32 bits fits into 64 bits with a sign."""
_LEAST_CELL = 1.5
"""Pixels of the picture; cells of one pixel agree between neighbouring views in two thirds of the noise only."""
_TURN = ((0.73, -0.36, 0.58), (0.48, 0.88, -0.05), (-0.49, 0.31, 0.81))
"""Axes of the cells, turned away from those of the scene: floors and walls that lie on a border of cells would belong
to one side or the other by chance. That they are not quite at right angles does not matter."""


class AnchoredNoise:
    """Noise that is the same for the same place of a scene, see `NoiseSource`.

    Args:
        points: where the rays of each picture's pixels meet the scene, NaN = nowhere, in scene units.
        footprints: side of what one pixel covers at its point, in scene units; see `pixel_footprints`.
        seeds: one per picture; pictures of one seed share their noise.
        cell: side of a cell as a share of a latent pixel, in (0, 1]. Larger cells agree better between views and make
            neighbours more alike. A cell is never smaller than 1.5 pixels of the picture, whose points would miss it.
    """

    def __init__(
        self,
        points: Float[Tensor, "batch rows columns 3"],
        footprints: Float[Tensor, "batch rows columns"],
        seeds: tuple[int, ...],
        *,
        cell: float = 0.25,
    ) -> None:
        self._points, self._footprints, self._seeds, self._cell = points, footprints, seeds, cell

    @property
    def settings(self) -> dict[str, Any]:
        """What the account of an edit says about it."""
        return {"kind": "anchored", "cell": self._cell, "seeds": list(self._seeds)}

    def rows(self, rows: slice) -> "AnchoredNoise":
        """The noise of some of the pictures."""
        return AnchoredNoise(self._points[rows], self._footprints[rows], self._seeds[rows], cell=self._cell)

    def draw(
        self, own: Float[Tensor, "batch channels height width"], *, filled: tuple[float, float]
    ) -> Float[Tensor, "batch channels height width"]:
        """Standard normal noise for every picture; where no surface is known, the picture's own."""
        return torch.stack([self._draw_one(row, noise, filled) for row, noise in enumerate(own)])

    def _draw_one(
        self, row: int, own: Float[Tensor, "channels height width"], filled: tuple[float, float]
    ) -> Float[Tensor, "channels height width"]:
        channels, height, width = own.shape
        points, footprints = self._points[row].double(), self._footprints[row].double()
        known = points.isfinite().all(-1) & footprints.isfinite() & (footprints > 0)
        places = _latent_places(known.shape[0], known.shape[1], height, width, filled).to(known.device)[known]
        # Pixels of the picture to a latent pixel, along the axis that has fewer of them.
        pitch = min(known.shape[0] / (filled[0] * height), known.shape[1] / (filled[1] * width))
        sizes = footprints[known] * max(_LEAST_CELL, self._cell * pitch)
        cells, weights = _cells_of(points[known], sizes, self._seeds[row])
        value = _mix_cells(places.repeat(2), cells, weights, channels, height * width).view(channels, height, width)
        return torch.where(value.isfinite(), value, own.to(value)).to(own)


def pixel_footprints(
    camera: Cameras, points: Float[Tensor, "rows columns 3"], *, far: float = float("inf")
) -> Float[Tensor, "rows columns"]:
    """Side of what a pixel covers at its surface point, were it seen straight on: distance over focal length.

    Args:
        camera: one camera.
        points: where its rays meet the scene.
        far: distance in scene units from which on there is nothing; NaN comes back there.
    """
    origin = camera.camera_to_worlds[0, :3, 3].to(points)
    focal = float((camera.fx[0] * camera.fy[0]).sqrt())
    distance = (points - origin).norm(dim=-1)
    return torch.where(distance < far, distance, torch.nan) / focal


def _latent_places(
    rows: int, columns: int, height: int, width: int, filled: tuple[float, float]
) -> Int[Tensor, "rows columns"]:
    """Number of the latent pixel that each pixel of a picture lies in."""
    down = ((torch.arange(rows) + 0.5) / rows * filled[0] * height).long().clamp(max=height - 1)
    right = ((torch.arange(columns) + 0.5) / columns * filled[1] * width).long().clamp(max=width - 1)
    return down[:, None] * width + right


def _cells_of(
    points: Float[Tensor, "point 3"], sizes: Float[Tensor, " point"], seed: int
) -> tuple[Int[Tensor, " two_points"], Float[Tensor, " two_points"]]:
    """Names of the cells that points lie in, of the next smaller size and then of the next larger, and their weights.

    Args:
        points: in scene units.
        sizes: wanted side of their cells.
        seed: cells have other names for another one.
    """
    level, turned = sizes.log2(), points @ points.new_tensor(_TURN)
    smaller = level.floor()
    share = level - smaller
    names: list[Tensor] = []
    for each in (smaller, smaller + 1):
        place = (turned / each.exp2()[:, None]).floor().long()
        parts = (each.long(), *place.unbind(-1))
        # Two words, because with one word cells of different places would soon have the same name.
        high, low = (_hash(_hash(torch.full_like(parts[0], seed)) ^ word, *parts) for word in (1, 2))
        names.append((high >> 1) << 32 | low)
    return torch.cat(names), torch.cat([1 - share, share])


def _mix_cells(
    places: Int[Tensor, " entry"],
    cells: Int[Tensor, " entry"],
    weights: Float[Tensor, " entry"],
    channels: int,
    count: int,
) -> Float[Tensor, "channels count"]:
    """The noise of each place from the cells it touches; NaN where it touches none.

    Args:
        places: where each entry counts, in [0, count).
        cells: names.
        weights: at least 0.
        channels: noise of each place.
        count: number of places.
    """
    names, cell = torch.unique(cells, return_inverse=True)
    # The points of a place that lie in one cell are one entry, because they have one number.
    pairs, entry = torch.unique(places * max(1, len(names)) + cell, return_inverse=True)
    weight = weights.new_zeros(len(pairs)).index_add_(0, entry, weights)
    place, cell = pairs // max(1, len(names)), pairs % max(1, len(names))
    numbers = _gaussian(names, channels)[cell] * weight[:, None]
    total = weights.new_zeros(count, channels).index_add_(0, place, numbers)
    squares = weights.new_zeros(count).index_add_(0, place, weight**2)
    return (total / squares.sqrt()[:, None]).T


def _gaussian(names: Int[Tensor, " cell"], channels: int) -> Float[Tensor, "cell channels"]:
    """A standard normal number for each name and channel, by Box and Muller."""
    numbers: list[Tensor] = []
    for channel in range(channels):
        first, second = (_hash(torch.full_like(names, 2 * channel + k), names >> 32, names) for k in (0, 1))
        radius = (-2 * ((first.double() + 0.5) / 2**32).log()).sqrt()
        numbers.append(radius * (2 * torch.pi * second.double() / 2**32).cos())
    return torch.stack(numbers, -1)


def _hash(start: Int[Tensor, "*any"], *parts: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """A word of 32 bits that looks random, from the low words of some integers."""
    value = _scramble(start & _WORD)
    for part in parts:
        value = _scramble(value ^ _scramble((part & _WORD) ^ 0x5BD1E995))
    return value


def _scramble(word: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Mix the bits of a word; no two words become one."""
    for _ in range(2):
        word = ((word >> 16 ^ word) * _FACTOR) & _WORD
    return word >> 16 ^ word
