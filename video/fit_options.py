"""How a clip is fitted; light, because the command line builds its flags from it."""

from dataclasses import dataclass
from typing import Literal

FieldKind = Literal["dense", "hash", "frequency"]
LEARNING_RATES: dict[FieldKind, float] = {"dense": 1e-2, "hash": 1e-3, "frequency": 5e-4}
"""What each kind is fitted with unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a clip is fitted."""

    field: FieldKind = "dense"
    """`dense`: sums of grids, started from the flow; `hash`: the paper's hash grids and networks; `frequency`: the
    paper's networks without hash grids."""
    steps: int = 1200
    """Gradient steps, at least 1."""
    frames_per_step: int = 4
    """Frames of each step, at least 1."""
    learning_rate: float | None = None
    """Peak learning rate, above 0; None = what suits the field."""
    gradient_weight: float = 0.1
    """Weight of the difference of image gradients, at least 0."""
    flow_weight: float = 2.0
    """Weight of the agreement with the flow, at least 0; the paper's is 1. More holds fine cells together."""
    background_weight: float = 0.003
    """Weight of the colours outside a layer's mask, which keeps its field sane there, at least 0."""
    margin: float = 0.3
    """How far the canonical image exceeds a frame on every side, as a share of its longest side, in [0, 1]."""
    finest_cell: float | None = None
    """Side of the cells of the finest deformation grid in pixels of the working size, at least 1; smaller cells follow
    the clip more closely. None = a 128th of the longest side, or 1 pixel (dense)."""
    hash_table: int = 2**19
    """Most corners each level of a hash grid keeps, a power of two; more for longer clips (hash)."""
    hash_kernel: Literal["torch", "tiny-cuda-nn"] = "torch"
    """What reads hash grids: `tiny-cuda-nn` is faster, and needs a GPU and that package (hash)."""
    reference: int | None = None
    """Frame of each segment that the canonical image starts from, counted from 0 (dense); None = the middle one."""
    seed: int = 0
    """Decides which frames each step sees, and how networks begin."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("frames_per_step", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("gradient_weight", "flow_weight", "background_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin must be in [0, 1], got {self.margin}")
        if self.finest_cell is not None and self.finest_cell < 1:
            raise ValueError(f"finest_cell must be at least 1 pixel, got {self.finest_cell}")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.hash_table < 1 or self.hash_table & (self.hash_table - 1):
            raise ValueError(f"hash_table must be a power of two, got {self.hash_table}")
        if self.reference is not None and self.reference < 0:
            raise ValueError(f"reference must not be negative, got {self.reference}")
