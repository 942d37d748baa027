"""Encodings of positions and frames that let a small network draw fine detail, and the network itself.

Levels of detail can be given weights, so that fine ones fade in while a field is trained.

Source: CoDeF (arXiv 2308.07926), section 3; sines are NeRF's (arXiv 2003.08934), section 5.1. Hash grids stand in
`hash_grid.py`.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..editors import InputError


def anneal_weights(
    step: int | float, *, begin: int | float, span: int | float, levels: int
) -> Float[Tensor, " levels"]:
    """Weights that let levels fade in one after the other, the coarsest first.

    Args:
        step: where the training stands, in steps or as a share.
        begin: until then all weights are 0, in the same unit.
        span: how long it takes until all weights are 1, above 0.
        levels: how many.

    Returns:
        Weights in [0, 1], on the CPU.

    Source: CoDeF, section 3 (annealed hash encoding); the shape of the window is Nerfies' (arXiv 2011.12948).
    """
    alpha = levels * max(0.0, step - begin) / span
    shown = [min(max(alpha - level, 0.0), 1.0) for level in range(levels)]
    return torch.tensor([(1 - math.cos(math.pi * share)) / 2 for share in shown])


class FrequencyEncoding(nn.Module):
    """Sines and cosines of coordinates, each band of twice the frequency of the one before. Source: NeRF, Eq. 4."""

    def __init__(self, dim: int, bands: int = 8, *, base_frequency: float = 1.0) -> None:
        """Nothing is learned.

        Args:
            dim: axes.
            bands: how many frequencies.
            base_frequency: of the first band, in radians per unit; CoDeF's is 1, NeRF's is pi.
        """
        super().__init__()
        self.dim, self.bands = dim, bands
        self.frequencies = tuple(base_frequency * 2**band for band in range(bands))

    @property
    def outputs(self) -> int:
        """Features of a point, of all bands together."""
        return 2 * self.dim * self.bands

    def forward(
        self, points: Float[Tensor, "points dim"], band_weights: Float[Tensor, " bands"] | None = None
    ) -> Float[Tensor, "points features"]:
        """Features of points, band by band: sines of all axes, then cosines.

        Args:
            points: anywhere.
            band_weights: what the features of each band are multiplied by (`anneal_weights`); None = 1.

        Raises:
            InputError: if points have other axes than these, or weights are not one per band.
        """
        weights = checked_weights(points, self.dim, band_weights, self.bands)
        found = list[Tensor]()
        for frequency, weight in zip(self.frequencies, weights, strict=True):
            found += [(points * frequency).sin() * weight, (points * frequency).cos() * weight]
        return torch.cat(found, 1)


class FrameCode(nn.Module):
    """A learned code for each frame of a clip, of any length."""

    def __init__(self, frames: int, width: int = 8, *, generator: torch.Generator | None = None) -> None:
        """Codes of unit variance.

        Args:
            frames: how many the clip has.
            width: numbers per frame.
            generator: source of the numbers; None = torch's own.
        """
        super().__init__()
        self.codes = nn.Parameter(torch.randn(frames, width, generator=generator))

    def forward(self, frames: Int[Tensor, " frame"]) -> Float[Tensor, "frame width"]:
        """Codes of frames, counted from 0.

        Raises:
            InputError: if the clip has no such frame.
        """
        check_frames(frames, len(self.codes))
        return self.codes[frames]


class Mlp(nn.Module):
    """Fully connected layers with ReLU between them and nothing after the last."""

    def __init__(
        self,
        inputs: int,
        width: int,
        hidden_layers: int,
        outputs: int,
        *,
        skip: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Random weights that neither swell nor fade from layer to layer (He, arXiv 1502.01852); biases of 0.

        Args:
            inputs: numbers per point that enter.
            width: of each hidden layer.
            hidden_layers: how many, at least 1.
            outputs: numbers per point that leave.
            skip: hidden layer, counted from 0, that sees the inputs once more; None = none.
            generator: source of the weights; None = torch's own.
        """
        super().__init__()
        self.skip = skip
        sizes = [inputs] + [width + (inputs if layer == skip else 0) for layer in range(1, hidden_layers)]
        self.hidden = nn.ModuleList(_linear(size, width, generator) for size in sizes)
        self.last = _linear(width, outputs, generator)

    def forward(self, points: Float[Tensor, "points inputs"]) -> Float[Tensor, "points outputs"]:
        """What the network makes of each point."""
        values = points
        for number, layer in enumerate(self.hidden):
            values = F.relu(layer(torch.cat([points, values], 1) if number == self.skip else values))
        return self.last(values)

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Make it give 0 everywhere until its first step, which moves the last layer only, the next ones all of it."""
        self.last.weight.zero_()
        self.last.bias.zero_()


def check_frames(frames: Int[Tensor, " frame"], count: int) -> None:
    """Refuse frames that a clip does not have; on a GPU nothing is looked at, because that would wait for it.

    Raises:
        InputError: if a frame is not in 0 .. count - 1.
    """
    if frames.is_cpu and len(frames) and not (0 <= int(frames.min()) and int(frames.max()) < count):
        raise InputError(
            f"frames must be in 0..{count - 1}, got {int(frames.min())}..{int(frames.max())}: fit them too"
        )


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    # A layer that is made on a device draws weights of its own first, from torch's generator.
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def checked_weights(points: Tensor, dim: int, weights: Tensor | None, count: int) -> Sequence[float]:
    """Weights as numbers, after a look at the shapes, which would otherwise go through unnoticed."""
    if points.shape[-1] != dim:
        raise InputError(f"points must have {dim} coordinates, got {points.shape[-1]}: encode them with another grid")
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise InputError(f"{count} level weights are expected, got {len(weights)}: make one per level")
    return weights.tolist()
