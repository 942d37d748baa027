"""Deformation and canonical fields: where a pixel of a frame lies in the canonical image, and what is there.

Positions are (x, y), right and down, normalised: centre i of n pixels is (i + 0.5) / n, so that a frame spans [0, 1].
Canonical positions are positions of the frame, which they may leave by a margin on every side.

Source: CoDeF (arXiv 2308.07926), section 3, whose hash grids and networks are in `hash_fields.py`. Differs from the
paper: the dense fields here are sums of grids of growing resolution and have no network, so that a step costs one
`grid_sample`; and they can start from optical flow, instead of learning the motion from nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..editors import Image

_UNIT = 0.05
"""What 1 in a deformation grid means, as a share of the frame: makes the learning rates of both fields alike."""


@dataclass(frozen=True, kw_only=True)
class FieldShape:
    """Sizes that a pair of fields is made for, in pixels of the working frames."""

    frames: int
    height: int
    width: int
    margin: int
    """Pixels by which the canonical image exceeds a frame on every side."""

    @property
    def canonical_height(self) -> int:
        """Rows of the canonical image."""
        return self.height + 2 * self.margin

    @property
    def canonical_width(self) -> int:
        """Columns of the canonical image."""
        return self.width + 2 * self.margin


def pixel_centres(height: int, width: int, *, device: torch.device | str = "cpu") -> Float[Tensor, "height width 2"]:
    """Normalised positions (x, y) of all pixels of a frame."""
    ys = (torch.arange(height, device=device) + 0.5) / height
    xs = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)], -1)


class DeformationField(nn.Module, ABC):
    """Offsets from positions in frames to positions in the canonical image."""

    @abstractmethod
    def forward(
        self, points: Float[Tensor, "frame point 2"], frames: Int[Tensor, " frame"], share: float = 1.0
    ) -> Float[Tensor, "frame point 2"]:
        """Offsets of points, for each frame its own.

        Args:
            points: normalised positions.
            frames: which frames, counted from 0.
            share: how much of the training is done, in [0, 1]; fine detail may fade in with it.
        """

    def on_grid(
        self, frames: Int[Tensor, " frame"], height: int, width: int, share: float = 1.0
    ) -> Float[Tensor, "frame height width 2"]:
        """Offsets of all pixels of some frames, at any resolution."""
        points = pixel_centres(height, width, device=frames.device).reshape(1, -1, 2)
        return self(points.expand(len(frames), -1, -1), frames, share).unflatten(1, (height, width))


class CanonicalField(nn.Module, ABC):
    """The colours of the canonical image, at any position."""

    @abstractmethod
    def forward(self, points: Float[Tensor, "frame point 2"]) -> Float[Tensor, "frame point 3"]:
        """Colours at canonical positions, about [0, 1] but not clamped; the border goes on outside the margin."""

    def image(self, shape: FieldShape) -> Image:
        """The canonical image, clamped to [0, 1]; its pixels are as large as those of the frames."""
        device = next(self.parameters()).device
        rows, columns = shape.canonical_height, shape.canonical_width
        margins = _margins(shape).to(device)
        points = pixel_centres(rows, columns, device=device) * (1 + 2 * margins) - margins
        colors = torch.cat([self(row.reshape(1, -1, 2)) for row in points.split(_ROWS_AT_ONCE)], 1)
        return colors.reshape(1, rows, columns, 3).permute(0, 3, 1, 2).clamp(0, 1).contiguous()


_ROWS_AT_ONCE = 64


def _margins(shape: FieldShape) -> Float[Tensor, " 2"]:
    return torch.tensor([shape.margin / shape.width, shape.margin / shape.height])


class DenseDeformation(DeformationField):
    """Offsets as a sum of grids over each frame, from coarse to fine.

    Every frame has grids of its own; what holds frames together is the canonical image and the flow.
    """

    def __init__(self, shape: FieldShape, *, finest_cell: float) -> None:
        """Offsets of zero.

        Args:
            shape: of the clip.
            finest_cell: side of a cell of the finest grid in pixels.
        """
        super().__init__()
        self.sizes = grid_sizes(shape.height, shape.width, finest_cell=finest_cell)
        self.grids = nn.ParameterList(nn.Parameter(torch.zeros(shape.frames, 2, *size)) for size in self.sizes)

    def forward(
        self, points: Float[Tensor, "frame point 2"], frames: Int[Tensor, " frame"], share: float = 1.0
    ) -> Float[Tensor, "frame point 2"]:
        """Offsets of points, interpolated between the cells of each grid and constant beyond the frame's border."""
        where = (points * 2 - 1)[:, :, None]
        found = sum(_sample(grid[frames], where) for grid in self.grids)
        assert isinstance(found, Tensor)
        return found[..., 0].transpose(1, 2) * _UNIT

    def on_grid(
        self, frames: Int[Tensor, " frame"], height: int, width: int, share: float = 1.0
    ) -> Float[Tensor, "frame height width 2"]:
        """Offsets of all pixels of some frames: the same as by points, at less cost."""
        found = sum(_resize(grid[frames], (height, width)) for grid in self.grids)
        assert isinstance(found, Tensor)
        return found.permute(0, 2, 3, 1) * _UNIT

    @torch.no_grad()
    def start_from(
        self, offsets: Float[Tensor, "frame 2 height width"], trust: Float[Tensor, "frame 1 height width"]
    ) -> None:
        """Begin with given offsets; where they are not known, with those of the surroundings.

        Each grid takes what the coarser ones have left over.

        Args:
            offsets: normalised.
            trust: how far each is to be trusted, in [0, 1].
        """
        left = offsets.to(self.grids[0].device)
        trust = trust.to(left)
        for grid, size in zip(self.grids, self.sizes, strict=True):
            weight = F.interpolate(trust, size, mode="area")
            mean = F.interpolate(left * trust, size, mode="area") / weight.clamp(min=1e-6)
            grid.copy_(torch.where(weight > 1e-3, mean, torch.zeros_like(mean)) / _UNIT)
            left = left - _resize(grid, (left.shape[-2], left.shape[-1])) * _UNIT


class DenseCanonical(CanonicalField):
    """The canonical image as a sum of pictures, from coarse to fine; the finest has pixels as large as the frames'."""

    margins: Float[Tensor, " 2"]

    def __init__(self, shape: FieldShape, *, octaves: int = 5) -> None:
        """A grey image.

        Args:
            shape: of the clip.
            octaves: pictures in the sum, each twice as fine as the one before.
        """
        super().__init__()
        self.shape = shape
        size = (shape.canonical_height, shape.canonical_width)
        sizes = [tuple(max(2, round(n / 2**octave)) for n in size) for octave in reversed(range(octaves))]
        self.pictures = nn.ParameterList(nn.Parameter(torch.zeros(1, 3, *each)) for each in sizes)
        # A buffer, because a tensor made from numbers at every step would wait for the device each time.
        self.register_buffer("margins", _margins(shape), persistent=False)
        with torch.no_grad():
            self.pictures[0] += 0.5

    def forward(self, points: Float[Tensor, "frame point 2"]) -> Float[Tensor, "frame point 3"]:
        """Colours between pixel centres are interpolated."""
        where = (points + self.margins) / (1 + 2 * self.margins)
        picture = self._whole().expand(len(points), -1, -1, -1)
        return _sample(picture, (where * 2 - 1)[:, :, None])[..., 0].transpose(1, 2)

    def image(self, shape: FieldShape) -> Image:
        """The canonical image, clamped to [0, 1]."""
        if shape != self.shape:
            return super().image(shape)
        return self._whole().detach().clamp(0, 1)

    @torch.no_grad()
    def start_from(self, frame: Image) -> None:
        """Begin with a frame, its border stretched over the margin."""
        margin = self.shape.margin
        for picture in self.pictures:
            picture.zero_()
        self.pictures[-1].copy_(F.pad(frame, (margin,) * 4, mode="replicate"))

    def _whole(self) -> Image:
        size = (self.shape.canonical_height, self.shape.canonical_width)
        whole = sum(_resize(picture, size) for picture in self.pictures)
        assert isinstance(whole, Tensor)
        return whole


def grid_sizes(height: int, width: int, *, finest_cell: float) -> tuple[tuple[int, int], ...]:
    """Rows and columns of grids from about 4 cells along the longest side to cells of a given size.

    Args:
        height: rows of a frame.
        width: columns of a frame.
        finest_cell: side of a cell of the finest grid in pixels.
    """
    longest = max(height, width)
    finest = max(4, round(longest / finest_cell))
    counts = [finest]
    while counts[-1] >= 8:
        counts.append(counts[-1] // 2)
    return tuple((max(1, round(n * height / longest)), max(1, round(n * width / longest))) for n in reversed(counts))


def _sample(
    values: Float[Tensor, "frame channels height width"], where: Float[Tensor, "frame rows columns 2"]
) -> Float[Tensor, "frame channels rows columns"]:
    return F.grid_sample(values, where, mode="bilinear", padding_mode="border", align_corners=False)


def _resize(values: Float[Tensor, "frame channels _ _"], size: Sequence[int]) -> Float[Tensor, "frame channels _ _"]:
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values, tuple(size), mode="bilinear", align_corners=False)
