"""The blocks world: scenes of spheres, cubes and cylinders on a ground plane, and where they come from.

World axes follow nerfstudio: right-handed, z up, lengths in world units (a large block is about 1.3 wide).
A scene is a plain frozen description; `render.py` turns it into pixels, `instructions.py` edits it. Everything is
drawn from an integer seed, and the three splits own disjoint ranges of seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from ...editors import InputError

Shape = Literal["sphere", "cube", "cylinder"]
Color = Literal["red", "green", "blue", "yellow", "purple", "cyan", "white", "black"]
Size = Literal["small", "large"]
Material = Literal["matte", "shiny"]
Split = Literal["train", "validation", "test"]
T = TypeVar("T")

SHAPES: tuple[Shape, ...] = ("sphere", "cube", "cylinder")
COLORS: dict[Color, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.10),
    "green": (0.13, 0.66, 0.18),
    "blue": (0.10, 0.24, 0.88),
    "yellow": (0.95, 0.84, 0.10),
    "purple": (0.56, 0.14, 0.72),
    "cyan": (0.10, 0.78, 0.82),
    "white": (0.95, 0.95, 0.95),
    "black": (0.07, 0.07, 0.07),
}
"""Linear RGB albedo in [0, 1] of each colour name."""
SIZES: dict[Size, float] = {"small": 0.42, "large": 0.68}
"""Radius, or half the height, of each size in world units."""
MATERIALS: tuple[Material, ...] = ("matte", "shiny")

_MOST_BLOCKS = 5
_TRIPLET_SHARE = 0.25
_SPLIT_START: dict[Split, int] = {"train": 0, "validation": 1_000_000_000, "test": 1_100_000_000}
_SPLIT_LENGTH: dict[Split, int] = {"train": 1_000_000_000, "validation": 100_000_000, "test": 100_000_000}


@dataclass(frozen=True, kw_only=True)
class Block:
    """One object of a scene."""

    shape: Shape
    color: Color
    size: Size
    material: Material = "matte"
    x: float
    """Position of the centre on the ground, world units."""
    y: float
    z: float = 0.0
    """Height of the underside above the ground, world units."""
    yaw: float = 0.0
    """Rotation about the vertical axis, radians."""

    @property
    def half(self) -> float:
        """Half the height (and the radius of round shapes), world units."""
        return SIZES[self.size] * (0.86 if self.shape == "cube" else 1.0)

    @property
    def noun(self) -> str:
        """Colour and shape, e.g. `red cube`."""
        return f"{self.color} {self.shape}"

    @property
    def phrase(self) -> str:
        """Full noun phrase with its article, e.g. `a small shiny red cube`."""
        material = "shiny " if self.material == "shiny" else ""
        return f"a {self.size} {material}{self.noun}"


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A vertical rectangular mirror standing on the ground."""

    x: float
    y: float
    azimuth: float
    """Direction its face looks to, radians from +x."""
    width: float = 4.0
    height: float = 2.6
    """World units."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Blocks, light and, sometimes, a mirror."""

    blocks: tuple[Block, ...]
    light_azimuth: float = 0.6
    """Direction the sun shines from, radians from +x."""
    ground: float = 0.6
    """Brightness of the ground in [0, 1]."""
    mirror: Mirror | None = None
    reflected: tuple[Block, ...] | None = None
    """What the mirror shows; None = the blocks themselves. Only an edit of "... in the mirror" sets it."""

    @property
    def caption(self) -> str:
        """A sentence naming every block, largest detail first."""
        phrases = [block.phrase for block in self.blocks]
        if not phrases:
            return "an empty floor"
        head = ", ".join(phrases[:-1])
        text = f"{head} and {phrases[-1]}" if head else phrases[-1]
        return f"{text} in front of a mirror" if self.mirror else text


@dataclass(frozen=True, kw_only=True)
class OrbitCamera:
    """A pinhole camera that looks at the middle of the scene."""

    azimuth: float
    """Radians from +x."""
    elevation: float
    """Radians above the ground."""
    radius: float = 5.5
    """Distance to the target, world units."""
    fov: float = math.radians(45.0)
    """Vertical field of view, radians."""
    target: tuple[float, float, float] = (0.0, 0.0, 0.45)


def split_seed(split: Split, index: int) -> int:
    """Seed of the `index`-th scene of a split.

    Raises:
        InputError: if the index is outside the range of seeds the split owns.
    """
    if not 0 <= index < _SPLIT_LENGTH[split]:
        raise InputError(f"index must be in [0, {_SPLIT_LENGTH[split]}) for split {split!r}, got {index}")
    return _SPLIT_START[split] + index


def sample_camera(rng: np.random.Generator, mirror: Mirror | None = None) -> OrbitCamera:
    """A camera a little above the scene, anywhere around it or, with a mirror, on the side its face looks to."""
    azimuth = rng.uniform(0, 2 * math.pi) if mirror is None else mirror.azimuth + rng.uniform(-0.7, 0.7)
    return OrbitCamera(azimuth=azimuth, elevation=math.radians(rng.uniform(18, 42)), radius=rng.uniform(5.0, 6.0))


def sample_scene(
    rng: np.random.Generator,
    *,
    blocks: tuple[int, int] = (2, 4),
    distractors: float = 0.5,
    mirror: bool = False,
    twins: bool = False,
) -> Scene:
    """Draw a scene.

    Args:
        rng: source of all randomness.
        blocks: smallest and largest number of blocks.
        distractors: probability that a further block copies the colour or the shape of an earlier one, which makes
            references to it harder.
        mirror: whether a mirror stands behind the blocks.
        twins: whether two blocks, sometimes three, share colour and shape; their sizes may be the same too.

    Raises:
        InputError: if the numbers of blocks are no range within 0..5 (2..5 with twins), which is what the floor has
            room for.
    """
    fewest = 2 if twins else 0
    if not fewest <= blocks[0] <= blocks[1] <= _MOST_BLOCKS:
        raise InputError(f"expected numbers of blocks with {fewest} <= least <= most <= {_MOST_BLOCKS}, got {blocks}")
    count = int(rng.integers(blocks[0], blocks[1] + 1))
    placed: list[Block] = []
    while len(placed) < count:
        is_twin = twins and (len(placed) == 1 or (len(placed) == 2 and rng.random() < _TRIPLET_SHARE))
        block = _sample_block(rng, placed, distractors, twin=placed[0] if is_twin else None)
        if block is None:  # The floor is too crowded for another block: begin again.
            placed = []
            continue
        placed.append(block)
    azimuth = rng.uniform(0, 2 * math.pi)
    return Scene(
        blocks=tuple(placed),
        light_azimuth=rng.uniform(0, 2 * math.pi),
        ground=rng.uniform(0.5, 0.7),
        mirror=Mirror(x=-2.4 * math.cos(azimuth), y=-2.4 * math.sin(azimuth), azimuth=azimuth) if mirror else None,
    )


def _sample_block(
    rng: np.random.Generator, placed: Sequence[Block], distractors: float, *, twin: Block | None = None
) -> Block | None:
    color = _pick(rng, tuple(COLORS))
    shape = _pick(rng, SHAPES)
    if placed and rng.random() < distractors:
        other = placed[int(rng.integers(len(placed)))]
        if rng.random() < 0.5:
            color = other.color
        else:
            shape = other.shape
    size = _pick(rng, tuple(SIZES))
    material: Material = "shiny" if rng.random() < 0.3 else "matte"
    if twin is not None:
        color, shape = twin.color, twin.shape
    else:
        if any((b.color, b.shape, b.size) == (color, shape, size) for b in placed):
            size = "large" if size == "small" else "small"
        if any((b.color, b.shape, b.size) == (color, shape, size) for b in placed):
            return None
    for _ in range(40):
        x, y = rng.uniform(-1.45, 1.45, size=2)
        # The gap leaves room for any block to grow to the large size; only corners of large cubes can touch others.
        if all(math.hypot(x - b.x, y - b.y) > 1.5 for b in placed) and math.hypot(x, y) < 1.6:
            yaw = rng.uniform(0, math.pi / 2)
            return Block(shape=shape, color=color, size=size, material=material, x=float(x), y=float(y), yaw=yaw)
    return None


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
