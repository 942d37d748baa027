"""What a preset of learning holds: a checkpoint, a recipe, where it starts, and how often the run is looked at."""

from dataclasses import dataclass, field

from ..editors import BackboneConfig, BrushRecipe, BrushStart, CaptionSearchConfig, PhraseConfig, WatchConfig


@dataclass(frozen=True, kw_only=True)
class BrushPreset:
    """Where `maskedit brush learn` starts from; every flag given beside `--preset` overrides its value."""

    checkpoint: BackboneConfig
    """Which checkpoint to learn on, and how to run it."""
    recipe: BrushRecipe
    """How the brush is learned."""
    clip: str | None = None
    """CLIP that looks at the pairs; None = none."""
    start: BrushStart | None = None
    """Where learning starts; None = as the command decides."""
    phrases: PhraseConfig = field(default_factory=PhraseConfig)
    """How phrases that tell the sides apart are found."""
    caption: CaptionSearchConfig = field(default_factory=CaptionSearchConfig)
    """How a caption of the pictures after is searched."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """How often the run is looked at."""
