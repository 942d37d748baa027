"""Optical flow between the frames of a clip, and which of it can be trusted.

Flow is in pixels: channel 0 to the right, 1 down. What pixel p of one frame shows lies at p + flow(p) in the other.
Positions of points are (x, y), normalised: centre i of n pixels is (i + 0.5) / n.

Flow is trusted where the way there and the way back agree, a test that fails where something is hidden: Dense Point
Trajectories by GPU-accelerated Large Displacement Optical Flow, section 3.2 (doi.org/10.1007/978-3-642-15549-9_32). On
surfaces without any texture both ways can agree and be wrong.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ..editors import InputError, in_chunks
from .fields import pixel_centres

_DIS_SMALLEST = 64
"""OpenCV's DIS reads beyond its pyramid, and crashes, on some pictures with a side below 32 pixels."""
_DIS_SMALL = 128
"""Pictures with both sides below this many pixels are searched to the last pixel, not to every second one. On blocks
clips that takes a quarter off the error at 64 pixels and gains nothing from 128 on."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """How the motion between frames is found."""

    method: Literal["auto", "raft", "dis"] = "auto"
    """`raft`: the network, exact, slow without a GPU; `dis`: OpenCV's, which needs no weights; `auto`: raft where its
    weights are on this machine, else dis."""
    files: Path | None = None
    """Flow computed elsewhere, instead of any method: a folder with `forward` and `backward`, or a .npz file."""
    raft_checkpoint: Path | None = None
    """Weights of RAFT, large or small, as torchvision publishes them; None = those in torchvision's own cache."""
    raft_updates: int = 12
    """How often RAFT corrects its flow, at least 1."""
    chunk: int = 4
    """Pairs of frames that RAFT sees at once, at least 1; fewer need less memory."""
    tolerance_share: float = 0.01
    """Flow is trusted where there and back miss each other by less than this share of their lengths, at least 0 ..."""
    tolerance_pixels: float = 0.5
    """... plus this many pixels, above 0."""

    def __post_init__(self) -> None:
        for name in ("raft_updates", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.tolerance_share < 0:
            raise ValueError(f"tolerance_share must be at least 0, got {self.tolerance_share:g}")
        if self.tolerance_pixels <= 0:
            raise ValueError(f"tolerance_pixels must be above 0, got {self.tolerance_pixels:g}")


@dataclass(frozen=True, kw_only=True)
class ClipFlow:
    """The motion between each frame of a clip and the next."""

    forward: Float[Tensor, "pair 2 height width"]
    """From frame t to t + 1 in pixels, at [t]."""
    backward: Float[Tensor, "pair 2 height width"]
    """From frame t + 1 to t in pixels, at [t]."""
    forward_confident: Bool[Tensor, "pair height width"]
    """Pixels of frame t whose flow to t + 1 is trusted, at [t]."""
    backward_confident: Bool[Tensor, "pair height width"]
    """Pixels of frame t + 1 whose flow to t is trusted, at [t]."""
    method: str
    """What found it: `raft-large`, `raft-small`, `dis` or `files`."""

    def between(self, start: int, stop: int) -> "ClipFlow":
        """The flow of the frames from `start` up to but not with `stop`; no copies."""
        pairs = slice(start, stop - 1)
        return ClipFlow(
            forward=self.forward[pairs],
            backward=self.backward[pairs],
            forward_confident=self.forward_confident[pairs],
            backward_confident=self.backward_confident[pairs],
            method=self.method,
        )


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Where the pixels of every frame lie in one of them."""

    displacement: Float[Tensor, "frame 2 height width"]
    """From each frame to the reference frame, in pixels."""
    valid: Bool[Tensor, "frame height width"]
    """Pixels whose whole way is trusted and stays inside the frame."""


@torch.no_grad()
def estimate_flow(
    frames: UInt8[Tensor, "frame 3 height width"],
    config: FlowConfig,
    device: torch.device | str = "cpu",
    *,
    offline: bool = False,
) -> ClipFlow:
    """The flow of a clip both ways, pair by pair, or that of `config.files`.

    Args:
        frames: at least 2, RGB.
        config: the method and its options.
        device: where RAFT runs; DIS runs on the CPU, and the result lies there.
        offline: never fetch weights; `auto` does not fetch any either way.

    Raises:
        InputError: if there is only one frame, or the files do not fit the clip.
        ModelError: if RAFT is asked for and its weights are missing or are not RAFT's.
    """
    count, _, height, width = frames.shape
    if count < 2:
        raise InputError(f"flow needs at least 2 frames, got {count}: give a longer clip")
    if config.files is not None:
        from .flow_files import read_flow

        return read_flow(config.files, frames=count, height=height, width=width, config=config)
    from .raft import find_raft, load_raft, raft_flow

    weights = None if config.method == "dis" else find_raft(config.raft_checkpoint)
    use_raft = config.method == "raft" or weights is not None
    network, method = load_raft(weights, device=device, offline=offline) if use_raft else (None, "dis")

    def one_way(first: Tensor, second: Tensor) -> Tensor:
        if network is None:
            return torch.stack([_dis_flow(one, two) for one, two in zip(first, second, strict=True)])
        return raft_flow(network, first, second, updates=config.raft_updates).cpu()

    def pairs(rows: slice) -> ClipFlow:
        early, late = frames[:-1][rows], frames[1:][rows]
        return pair_flow(one_way(early, late), one_way(late, early), config, method=method)

    parts = in_chunks(pairs, count - 1, chunk=config.chunk)
    names = ("forward", "backward", "forward_confident", "backward_confident")
    return ClipFlow(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names}, method=method)


def pair_flow(
    forward: Float[Tensor, "pair 2 height width"],
    backward: Float[Tensor, "pair 2 height width"],
    config: FlowConfig,
    *,
    method: str,
) -> ClipFlow:
    """Flow both ways, with what can be trusted of it."""
    return ClipFlow(
        forward=forward,
        backward=backward,
        forward_confident=confident_pixels(forward, backward, config),
        backward_confident=confident_pixels(backward, forward, config),
        method=method,
    )


def confident_pixels(
    flow: Float[Tensor, "pair 2 height width"], back: Float[Tensor, "pair 2 height width"], config: FlowConfig
) -> Bool[Tensor, "pair height width"]:
    """Where flow stays inside the frame and the way back leads to where it came from.

    Args:
        flow: from the pixels that are asked about, in pixels.
        back: from the other frame, in pixels.
        config: how far the two may miss each other: |f(p) + b(p + f(p))| < share (|f| + |b|) + pixels.

    Source: Sundaram et al., section 3.2. Differs from the paper: lengths are compared, not their squares.
    """
    size = flow.shape[-2:]
    goal = warp_points(_grid(flow), flow)
    returning = sample_flow(back, goal).mT.unflatten(2, size)
    missed, lengths = _length(flow + returning), _length(flow) + _length(returning)
    close = missed < config.tolerance_share * lengths + config.tolerance_pixels
    return close & _inside(goal).unflatten(1, size)


def sample_flow(
    flow: Float[Tensor, "pair 2 height width"], points: Float[Tensor, "pair point 2"]
) -> Float[Tensor, "pair point 2"]:
    """Flow at points, in pixels, blended linearly; beyond the frame it is that of its edge.

    Args:
        flow: in pixels.
        points: (x, y), normalised.
    """
    return _sample(flow, points)


def warp_points(
    points: Float[Tensor, "pair point 2"], flow: Float[Tensor, "pair 2 height width"]
) -> Float[Tensor, "pair point 2"]:
    """Where points of one frame lie in the other one, both (x, y) and normalised."""
    height, width = flow.shape[-2:]
    return points + sample_flow(flow, points) / points.new_tensor([width, height])


@torch.no_grad()
def chain_flow(flow: ClipFlow, reference: int) -> Chain:
    """Follow flow from every frame to one of them.

    Each frame needs only its flow to the next one on the way and that one's chain: errors add up with the distance.

    Args:
        flow: of a clip; for a part of it see `ClipFlow.between`.
        reference: number of the frame that all displacements lead to, counted from 0.

    Raises:
        InputError: if there is no such frame.
    """
    pairs, _, height, width = flow.forward.shape
    if not 0 <= reference <= pairs:
        raise InputError(f"expected a reference frame from 0 to {pairs}, got {reference}")
    displacement = flow.forward.new_zeros(pairs + 1, 2, height, width)
    valid = torch.ones(pairs + 1, height, width, dtype=torch.bool, device=displacement.device)
    for frame in range(reference - 1, -1, -1):
        step = flow.forward[frame], flow.forward_confident[frame]
        displacement[frame], valid[frame] = _prolong(*step, displacement[frame + 1], valid[frame + 1])
    for frame in range(reference + 1, pairs + 1):
        step = flow.backward[frame - 1], flow.backward_confident[frame - 1]
        displacement[frame], valid[frame] = _prolong(*step, displacement[frame - 1], valid[frame - 1])
    return Chain(displacement=displacement, valid=valid)


def _prolong(flow: Tensor, confident: Tensor, onward: Tensor, onward_valid: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a chain, put before the rest of its way."""
    size = flow.shape[-2:]
    goal = warp_points(_grid(flow[None]), flow[None])
    rest = _sample(torch.cat((onward, onward_valid[None].float()))[None], goal)[0].mT.unflatten(1, size)
    return flow + rest[:2], confident & (rest[2] > 0.5) & _inside(goal)[0].view(size)


def _grid(flow: Tensor) -> Tensor:
    """The centres of all pixels, once for each pair."""
    return pixel_centres(*flow.shape[-2:], device=flow.device).view(1, -1, 2).expand(len(flow), -1, -1)


def _length(flow: Tensor) -> Tensor:
    # A norm over an axis of two takes twenty times as long on a CPU.
    return torch.hypot(flow[:, 0], flow[:, 1])


def _inside(points: Tensor) -> Tensor:
    within = (points >= 0) & (points <= 1)
    return within[..., 0] & within[..., 1]


def _sample(fields: Tensor, points: Tensor) -> Tensor:
    grid = 2 * points[:, None] - 1
    return F.grid_sample(fields, grid, padding_mode="border", align_corners=False)[:, :, 0].mT


def _dis_flow(first: Tensor, second: Tensor) -> Tensor:
    """Flow of OpenCV's DIS with its preset "medium", on luma: the three colours one by one gain next to nothing."""
    import cv2

    height, width = first.shape[-2:]
    below, beside = max(0, _DIS_SMALLEST - height), max(0, _DIS_SMALLEST - width)
    greys = [cv2.cvtColor(frame.permute(1, 2, 0).cpu().numpy(), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    greys = [np.pad(grey, ((0, below), (0, beside)), mode="edge") for grey in greys]
    # The types of this version of OpenCV do not know that the flow to start from may be missing.
    start = np.zeros((*greys[0].shape, 2), np.float32)
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if max(height, width) < _DIS_SMALL:
        method.setFinestScale(0)
    found = method.calc(greys[0], greys[1], start)
    return torch.from_numpy(np.ascontiguousarray(found[:height, :width])).permute(2, 0, 1).contiguous()
