"""CoDeF's own fields: small networks that read hash grids, or sines of the coordinates.

Offsets begin at exactly 0: the last layer of every deformation network starts with weights and biases of 0, so that the
first step moves that layer alone and the next ones everything.

Source: CoDeF (arXiv 2308.07926), section 3, with the sizes of its published code. Differs from the paper: networks
compute in float32 and have biases; codes of frames do not end at 200, and the margin is the clip's instead of 0.3 of
each side. Cells of the canonical grid are no smaller than its pixels: with cells of a sixth, as published, frames can
tell themselves apart by offsets far below a pixel, read colours of their own between the centres of pixels, and leave
no picture at the centres. (A clip of 64 pixels was fitted to 38 dB, and its canonical image gave it back at 18 dB; with
cells of a pixel, 43 and 40.)
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .encodings import FrameCode, FrequencyEncoding, Mlp, anneal_weights, check_frames
from .fields import CanonicalField, DeformationField, FieldShape
from .hash_grid import HashGridConfig, make_hash_grid


@dataclass(frozen=True, kw_only=True)
class HashDeformationConfig:
    """Sizes of a deformation on a hash grid of positions and time."""

    grid: HashGridConfig = field(default_factory=HashGridConfig)
    """The hash grid."""
    width: int = 64
    """Of each hidden layer."""
    hidden_layers: int = 8
    """How many, at least 1."""
    output_scale: float = 0.2
    """Offset, as a share of the frame, that an output of 1 stands for."""
    anneal_begin: float = 0.4
    """Share of the training, in [0, 1], during which the network sees no grid, and its offsets stay smooth."""
    anneal_span: float = 0.4
    """Share of the training, in (0, 1], over which the levels of the grid fade in after that."""

    def __post_init__(self) -> None:
        _check_network(self.width, self.hidden_layers)
        _check_annealing(self.anneal_begin, self.anneal_span)


@dataclass(frozen=True, kw_only=True)
class HashCanonicalConfig:
    """Sizes of a canonical image on a hash grid."""

    grid: HashGridConfig = field(default_factory=lambda: HashGridConfig(growth=1.44))
    """The hash grid, before its levels are fitted to the canonical image."""
    finest_cell: float = 1.0
    """Least side of a cell, in pixels along the longest side of the canonical image; 0 = whatever the grid says."""
    width: int = 64
    """Of each hidden layer."""
    hidden_layers: int = 2
    """How many, at least 1."""

    def __post_init__(self) -> None:
        _check_network(self.width, self.hidden_layers)
        if self.finest_cell < 0:
            raise ValueError(f"finest_cell must not be negative, got {self.finest_cell:g}")

    def grid_for(self, shape: FieldShape) -> HashGridConfig:
        """The hash grid for a clip."""
        if self.finest_cell == 0:
            return self.grid
        longest = max(shape.canonical_height, shape.canonical_width)
        return self.grid.limited(max(1, round(longest / self.finest_cell)))


@dataclass(frozen=True, kw_only=True)
class FrequencyDeformationConfig:
    """Sizes of a deformation on sines of positions and a code per frame."""

    bands: int = 8
    """Frequencies of the sines, at least 1."""
    base_frequency: float = 1.0
    """Of the first band, in radians per frame; each band doubles it."""
    frame_code: int = 8
    """Learned numbers per frame, at least 1."""
    width: int = 128
    """Of each hidden layer."""
    hidden_layers: int = 6
    """How many, at least 1."""
    skip: int | None = 4
    """Hidden layer, counted from 0, that sees the inputs once more; None = none."""
    anneal_begin: float = 0.0
    """Share of the training, in [0, 1], during which the network sees no sines."""
    anneal_span: float = 0.5
    """Share of the training, in (0, 1], over which the bands fade in after that."""

    def __post_init__(self) -> None:
        _check_network(self.width, self.hidden_layers)
        _check_annealing(self.anneal_begin, self.anneal_span)
        for name in ("bands", "frame_code"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class FrequencyCanonicalConfig:
    """Sizes of a canonical image on sines of positions."""

    bands: int = 8
    """Frequencies of the sines, at least 1."""
    base_frequency: float = 1.0
    """Of the first band, in radians per canonical image; each band doubles it."""
    width: int = 256
    """Of each hidden layer."""
    hidden_layers: int = 8
    """How many, at least 1."""
    skip: int | None = 4
    """Hidden layer, counted from 0, that sees the inputs once more; None = none."""

    def __post_init__(self) -> None:
        _check_network(self.width, self.hidden_layers)
        if self.bands < 1:
            raise ValueError(f"bands must be at least 1, got {self.bands}")


class HashDeformation(DeformationField):
    """Offsets by a network that reads position, time and a hash grid over both."""

    def __init__(
        self,
        shape: FieldShape,
        config: HashDeformationConfig | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Offsets of 0.

        Args:
            shape: of the clip.
            config: sizes; None = the published ones.
            generator: source of the first weights; None = torch's own.
        """
        super().__init__()
        self.config = config = config or HashDeformationConfig()
        self.frames = shape.frames
        self.grid = make_hash_grid(config.grid, 3, generator=generator)
        self.network = Mlp(3 + config.grid.outputs, config.width, config.hidden_layers, 2, generator=generator)
        self.network.start_at_zero()

    def forward(
        self, points: Float[Tensor, "frame point 2"], frames: Int[Tensor, " frame"], share: float = 1.0
    ) -> Float[Tensor, "frame point 2"]:
        """Offsets of points, for each frame its own; beyond the frame's border the grid gives what it gives there.

        Args:
            points: normalised positions.
            frames: which frames, counted from 0.
            share: how much of the training is done, in [0, 1]; levels of the grid fade in with it.

        Raises:
            InputError: if frames on the CPU are not of the clip.
        """
        check_frames(frames, self.frames)
        config = self.config
        times = ((frames + 1) / self.frames).to(points)
        places = torch.cat([points, times[:, None, None].expand(-1, points.shape[1], 1)], 2).flatten(0, 1)
        weights = anneal_weights(share, begin=config.anneal_begin, span=config.anneal_span, levels=config.grid.levels)
        offsets = self.network(torch.cat([places, self.grid(places, weights)], 1))
        return (offsets * config.output_scale).view_as(points)


class FrequencyDeformation(DeformationField):
    """Offsets by a network that reads position, its sines and a learned code of the frame."""

    def __init__(
        self,
        shape: FieldShape,
        config: FrequencyDeformationConfig | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Offsets of 0.

        Args:
            shape: of the clip.
            config: sizes; None = the published ones.
            generator: source of the first weights; None = torch's own.
        """
        super().__init__()
        self.config = config = config or FrequencyDeformationConfig()
        self.codes = FrameCode(shape.frames, config.frame_code, generator=generator)
        self.encoding = FrequencyEncoding(2, config.bands, base_frequency=config.base_frequency)
        inputs = 2 + self.encoding.outputs + config.frame_code
        self.network = Mlp(inputs, config.width, config.hidden_layers, 2, skip=config.skip, generator=generator)
        self.network.start_at_zero()

    def forward(
        self, points: Float[Tensor, "frame point 2"], frames: Int[Tensor, " frame"], share: float = 1.0
    ) -> Float[Tensor, "frame point 2"]:
        """Offsets of points, for each frame its own.

        Args:
            points: normalised positions.
            frames: which frames, counted from 0.
            share: how much of the training is done, in [0, 1]; bands fade in with it.

        Raises:
            InputError: if frames on the CPU are not of the clip.
        """
        config = self.config
        weights = anneal_weights(share, begin=config.anneal_begin, span=config.anneal_span, levels=config.bands)
        places = points.flatten(0, 1)
        codes = self.codes(frames).repeat_interleave(points.shape[1], 0)
        return self.network(torch.cat([places, self.encoding(places, weights), codes], 1)).view_as(points)


class NetworkCanonical(CanonicalField):
    """The canonical image by a network that reads position and an encoding of it."""

    margins: Float[Tensor, " 2"]

    def __init__(self, shape: FieldShape, encoding: nn.Module, network: Mlp, *, bounded: bool) -> None:
        """Hold the parts.

        Args:
            shape: of the clip; its margin is squeezed into [0, 1] with the frame.
            encoding: of positions in [0, 1].
            network: reads position and encoding, gives colours.
            bounded: whether colours pass through a sigmoid.
        """
        super().__init__()
        self.encoding, self.network, self.bounded = encoding, network, bounded
        margins = torch.tensor([shape.margin / shape.width, shape.margin / shape.height])
        self.register_buffer("margins", margins, persistent=False)

    def forward(self, points: Float[Tensor, "frame point 2"]) -> Float[Tensor, "frame point 3"]:
        """Colours at canonical positions; the border goes on outside the margin."""
        places = ((points + self.margins) / (1 + 2 * self.margins)).clamp(0, 1).flatten(0, 1)
        colors = self.network(torch.cat([places, self.encoding(places)], 1))
        return (colors.sigmoid() if self.bounded else colors).unflatten(0, points.shape[:2])


class HashCanonical(NetworkCanonical):
    """The canonical image by a network that reads position and a hash grid."""

    def __init__(
        self,
        shape: FieldShape,
        config: HashCanonicalConfig | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Colours of chance, not clamped.

        Args:
            shape: of the clip.
            config: sizes; None = the published ones.
            generator: source of the first weights; None = torch's own.
        """
        config = config or HashCanonicalConfig()
        grid = make_hash_grid(config.grid_for(shape), 2, generator=generator)
        network = Mlp(2 + config.grid.outputs, config.width, config.hidden_layers, 3, generator=generator)
        super().__init__(shape, grid, network, bounded=False)


class FrequencyCanonical(NetworkCanonical):
    """The canonical image by a network that reads position and its sines."""

    def __init__(
        self,
        shape: FieldShape,
        config: FrequencyCanonicalConfig | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Colours of chance, in (0, 1).

        Args:
            shape: of the clip.
            config: sizes; None = the published ones.
            generator: source of the first weights; None = torch's own.
        """
        config = config or FrequencyCanonicalConfig()
        encoding = FrequencyEncoding(2, config.bands, base_frequency=config.base_frequency)
        network = Mlp(
            2 + encoding.outputs, config.width, config.hidden_layers, 3, skip=config.skip, generator=generator
        )
        super().__init__(shape, encoding, network, bounded=True)


def _check_network(width: int, hidden_layers: int) -> None:
    for name, value in (("width", width), ("hidden_layers", hidden_layers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _check_annealing(begin: float, span: float) -> None:
    if not 0 <= begin <= 1:
        raise ValueError(f"anneal_begin must be in [0, 1], got {begin:g}")
    if not 0 < span <= 1:
        raise ValueError(f"anneal_span must be in (0, 1], got {span:g}")
