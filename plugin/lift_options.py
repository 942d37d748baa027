"""Options of masks that are lifted into the scene, and of holding the scene outside them."""

from dataclasses import dataclass

GRID_STEP = 8
"""Cells along an axis come in multiples of this."""
MOST_CELLS = 512
"""Cells along an axis at most: votes in so many take 1 GiB, and counting them as much again."""


@dataclass(frozen=True, kw_only=True)
class LiftConfig:
    """How the masks of all photos become one region of the scene; read with --pipeline.masks lifted."""

    resolution: int = 128
    """Cells along each axis of the grid in which a nerfacto scene keeps the votes, a multiple of 8 up to 512. Half of
    them lie between the outermost cameras; a finer grid follows small objects closer and needs photos with more
    pixels."""
    threshold: float = 0.5
    """Share of votes from which a place belongs to the region, in (0, 1), as a part of the share that the object itself
    reaches: lower where detectors miss much, higher where their masks are too wide."""
    softness: float = 0.2
    """Width of the soft edge in shares of votes, as part of the same, in [0, 1]; 0 = hard masks."""
    rounds: int = 2
    """How often the photos vote, at least 1; from the second time on those that disagree with the rest count less."""
    batch: int = 8
    """Photos that the editor looks for masks in together, at least 1."""

    def __post_init__(self) -> None:
        if not GRID_STEP <= self.resolution <= MOST_CELLS or self.resolution % GRID_STEP:
            raise ValueError(
                f"lift.resolution must be a multiple of {GRID_STEP} up to {MOST_CELLS}, got {self.resolution}"
            )
        if not 0 < self.threshold < 1:
            raise ValueError(f"lift.threshold must be in (0, 1), got {self.threshold:g}")
        if not 0 <= self.softness <= 1:
            raise ValueError(f"lift.softness must be in [0, 1], got {self.softness:g}")
        for name in ("rounds", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"lift.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ProtectConfig:
    """How a nerfacto scene is held outside the region; of a splat scene nothing outside changes at all."""

    weight: float = 1.0
    """Weight of the loss that holds density and colour outside the region to those of before the first edit, at least
    0; beside that of the photos, which is 1."""
    photos: float = 0.1
    """Weight of the photos on rays that meet nothing of the region, in [0, 1]; 1 = as without protection."""
    margin: int = 2
    """Cells of the lifting grid around the region that may change as well, at least 0."""

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"protection.weight must be at least 0, got {self.weight:g}")
        if not 0 <= self.photos <= 1:
            raise ValueError(f"protection.photos must be in [0, 1], got {self.photos:g}")
        if self.margin < 0:
            raise ValueError(f"protection.margin must be at least 0, got {self.margin}")
