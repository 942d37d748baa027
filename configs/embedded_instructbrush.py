"""InstructBrush on the embedded set: an edit of the blocks world learned from a handful of small pairs.

Command:   maskedit brush learn PAIRS --preset embedded-instructbrush --init-text "make the red cube blue"
Hardware:  any CPU.
Minutes:   about ten on one core.
Scores:    none yet.

Guidance is the checkpoint's own preset.
"""

from ..editors import BackboneConfig, BrushRecipe, WatchConfig
from .brush_preset import BrushPreset

EMBEDDED_INSTRUCTBRUSH = BrushPreset(
    checkpoint=BackboneConfig(model="embedded", offline=True),
    recipe=BrushRecipe(steps=400),
    watch=WatchConfig(every=100),
)
