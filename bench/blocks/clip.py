"""Clips of the blocks world: moving cameras and blocks, exact flow and masks, and the truly edited twin.

A clip is its first scene, the edits, one camera a frame and the motions of single blocks. Edited blocks, and what is
put on them, move along with the block they were. `flow.py` says what flow means on sky and mirrors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...editors import InputError
from .flow import Flow, optical_flow
from .instructions import FIXED_REFERENCES, BlockEdit, EditKind, Reference, apply_edits, block_origins
from .pairs import CHANGED_THRESHOLD, edit_masks, make_pairs
from .render import Rendering, render
from .scene import Block, OrbitCamera, Scene, Split, split_seed

_CLEARANCE = 1.4
_FLOOR = 1.7


@dataclass(frozen=True, kw_only=True)
class BlockMotion:
    """A steady motion of one block from the first frame to the last."""

    block: int
    """Index into the blocks of the unedited scene."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Way along x and y on the ground, world units."""
    turn: float = 0.0
    """Rotation about the vertical axis, radians."""


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Everything that defines a clip, without its pixels."""

    scene: Scene
    """At the first frame."""
    edits: tuple[BlockEdit, ...]
    cameras: tuple[OrbitCamera, ...]
    """One a frame."""
    motions: tuple[BlockMotion, ...] = ()

    def __post_init__(self) -> None:
        if len(self.cameras) < 2:
            raise InputError(f"a clip needs at least 2 frames, got {len(self.cameras)} cameras")
        for motion in self.motions:
            if not 0 <= motion.block < len(self.scene.blocks):
                raise InputError(
                    f"motion names block {motion.block}, but the scene has {len(self.scene.blocks)} blocks"
                )

    @property
    def edited(self) -> Scene:
        """The truly edited scene at the first frame."""
        return apply_edits(self.scene, self.edits)[0]

    @property
    def instruction(self) -> str:
        """All instructions in one sentence."""
        return ", ".join(edit.text for edit in self.edits)

    def scenes(self, *, edited: bool = False) -> tuple[Scene, ...]:
        """The scene, or the edited one, at every frame."""
        scene, edits = (self.edited, self.edits) if edited else (self.scene, ())
        direct, shown = block_origins(self.scene, edits)
        by_block = {motion.block: motion for motion in self.motions}
        last = len(self.cameras) - 1

        def move(blocks: tuple[Block, ...], origins: Sequence[int], frame: int) -> tuple[Block, ...]:
            return tuple(_move(b, by_block.get(o), frame / last) for b, o in zip(blocks, origins, strict=True))

        return tuple(
            replace(
                scene,
                blocks=move(scene.blocks, direct, frame),
                reflected=None if scene.reflected is None else move(scene.reflected, shown or (), frame),
            )
            for frame in range(last + 1)
        )


@dataclass(frozen=True, kw_only=True)
class Footage:
    """The frames of one clip and the motion between them."""

    frames: Float[Tensor, "frame 3 height width"]
    depth: Float[Tensor, "frame height width"]
    """Along the optical axis in world units, infinite on the sky."""
    forward: Float[Tensor, "pair 2 height width"]
    """Flow from frame t to t + 1 in pixels, at [t]."""
    backward: Float[Tensor, "pair 2 height width"]
    """Flow from frame t + 1 to t in pixels, at [t]."""
    forward_occluded: Bool[Tensor, "pair height width"]
    """Pixels of frame t whose point frame t + 1 does not show."""
    backward_occluded: Bool[Tensor, "pair height width"]
    """Pixels of frame t + 1 whose point frame t does not show."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip, its truly edited twin, and masks."""

    spec: ClipSpec
    source: Footage
    edited: Footage
    masks: Bool[Tensor, "edit frame height width"]
    """Silhouettes of each edit's blocks before and after."""
    changed: Bool[Tensor, "frame 1 height width"]
    """Pixels that truly change, shadows and reflections included."""

    @property
    def mask(self) -> Bool[Tensor, "frame 1 height width"]:
        """Union of the masks."""
        return self.masks.any(0)[:, None]


def sample_clip(
    split: Split,
    index: int,
    *,
    frames: int = 12,
    edits: int = 1,
    sweep: float = math.radians(20),
    slide: float = 0.6,
    mirror: bool = False,
    kinds: Mapping[EditKind, float] | None = None,
    references: Mapping[Reference, float] | None = None,
) -> ClipSpec:
    """Draw a clip: the camera sweeps around the scene while one block slides over the floor and turns.

    Args:
        split: which range of scene seeds to draw from.
        index: scene number within the split; the scene is the one `make_pairs` draws for the same arguments.
        frames: length of the clip.
        edits: instructions.
        sweep: angle the camera travels in radians, 0 = it stands still.
        slide: way of the block in world units, 0 = nothing moves; where the floor is too crowded it only turns.
        mirror: whether a mirror stands in the scene.
        kinds: shares of the kinds of edit.
        references: shares of the reference families; default those that hold from every side.
    """
    references = FIXED_REFERENCES if references is None else references
    pair = make_pairs(split, [index], edits=edits, mirror=mirror, kinds=kinds, references=references).specs[0]
    middle = pair.camera.azimuth
    azimuths = np.linspace(middle - sweep / 2, middle + sweep / 2, frames).tolist()
    rng = np.random.default_rng([split_seed(split, index), 7])
    return ClipSpec(
        scene=pair.scene,
        edits=pair.edits,
        cameras=tuple(replace(pair.camera, azimuth=azimuth) for azimuth in azimuths),
        motions=(_sample_motion(rng, pair.scene, slide),) if slide > 0 else (),
    )


def render_clip(
    spec: ClipSpec,
    *,
    height: int = 64,
    width: int | None = None,
    samples: int = 3,
    device: torch.device | str = "cpu",
) -> Clip:
    """Render a clip and its twin with their truth.

    Args:
        spec: what to render.
        height: picture height in pixels.
        width: picture width in pixels; None = square.
        samples: anti-aliasing, rays per pixel along each axis.
        device: where to compute and return.
    """
    renderings: list[Rendering] = []
    footage: list[Footage] = []
    for edited in (False, True):
        scenes = spec.scenes(edited=edited)
        rendering = render(scenes, spec.cameras, height=height, width=width, samples=samples, device=device)
        there, back = _both_flows(scenes, spec.cameras, height, width, device)
        renderings.append(rendering)
        footage.append(
            Footage(
                frames=rendering.rgb,
                depth=rendering.depth,
                forward=there.flow,
                backward=back.flow,
                forward_occluded=there.occluded,
                backward_occluded=back.occluded,
            )
        )
    before, after = renderings
    where = apply_edits(spec.scene, spec.edits)[1]
    return Clip(
        spec=spec,
        source=footage[0],
        edited=footage[1],
        masks=edit_masks(spec.edits, where, before, after),
        changed=((before.rgb - after.rgb).abs() > CHANGED_THRESHOLD).any(1, keepdim=True),
    )


def _both_flows(
    scenes: Sequence[Scene],
    cameras: Sequence[OrbitCamera],
    height: int,
    width: int | None,
    device: torch.device | str,
) -> tuple[Flow, Flow]:
    early, late = (scenes[:-1], cameras[:-1]), (scenes[1:], cameras[1:])
    there = optical_flow(*early, *late, height=height, width=width, device=device)
    return there, optical_flow(*late, *early, height=height, width=width, device=device)


def _move(block: Block, motion: BlockMotion | None, share: float) -> Block:
    if motion is None:
        return block
    x, y = block.x + share * motion.shift[0], block.y + share * motion.shift[1]
    return replace(block, x=x, y=y, yaw=block.yaw + share * motion.turn)


def _sample_motion(rng: np.random.Generator, scene: Scene, slide: float) -> BlockMotion:
    """A way for one block that meets no other block and stays on the floor."""
    turn = float(rng.uniform(-0.6, 0.6))
    for _ in range(100):
        moving = int(rng.integers(len(scene.blocks)))
        angle = rng.uniform(0, 2 * math.pi)
        shift = (slide * math.cos(angle), slide * math.sin(angle))
        block = scene.blocks[moving]
        steps = [(block.x + s * shift[0], block.y + s * shift[1]) for s in np.linspace(0, 1, 9)]
        others = [other for i, other in enumerate(scene.blocks) if i != moving]
        clear = all(math.hypot(x - o.x, y - o.y) > _CLEARANCE for x, y in steps for o in others)
        if clear and math.hypot(*steps[-1]) < _FLOOR:
            return BlockMotion(block=moving, shift=shift, turn=turn)
    return BlockMotion(block=int(rng.integers(len(scene.blocks))), turn=turn)
