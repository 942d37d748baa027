"""What a preset of learning holds: a checkpoint, a recipe, and how often the run is looked at."""

from dataclasses import dataclass, field

from ..editors import BackboneConfig, BrushRecipe, WatchConfig


@dataclass(frozen=True, kw_only=True)
class BrushPreset:
    """Where `maskedit brush learn` starts from; every flag given beside `--preset` overrides its value."""

    checkpoint: BackboneConfig
    """Which checkpoint to learn on, and how to run it."""
    recipe: BrushRecipe
    """How the brush is learned."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """How often the run is looked at."""
