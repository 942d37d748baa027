"""What a preset of training SmartEdit holds: a stage, its recipe, sizes, and how the run is carried out."""

from dataclasses import dataclass, field

from ..editors import SmartEditArchitecture, SmartEditRecipe, SmartEditRun, SmartEditStage


@dataclass(frozen=True, kw_only=True)
class SmartEditPreset:
    """Where `maskedit train smartedit` starts from; every flag given beside `--preset` overrides its value."""

    stage: SmartEditStage
    """Which stage."""
    recipe: SmartEditRecipe
    """How it is trained."""
    base: str | None = None
    """Checkpoint with the UNet that learns; None = that of --start-from."""
    lora_rank: int = 8
    """Rank of LoRA; the paper says 16, the released weights have 8."""
    lora_alpha: int = 16
    """LoRA is scaled by this over the rank; the paper says 27."""
    architecture: SmartEditArchitecture = field(default_factory=SmartEditArchitecture)
    """Sizes of what is between the language model and the UNet."""
    run_settings: SmartEditRun = field(
        default_factory=lambda: SmartEditRun(export_every=5000, workers=4, checkpointing=True)
    )
    """How the run is carried out."""
