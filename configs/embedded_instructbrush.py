"""InstructBrush on the embedded set: an edit of the blocks world learned from a handful of small pairs.

Command:   maskedit brush learn PAIRS --preset embedded-instructbrush --init-text "make the red cube blue"
Hardware:  any CPU.
Minutes:   about five on one core that does nothing else.
Scores:    with five pairs of red blocks turned blue and four others held out, 100 steps lower the held-out loss from
           that of the text to 0.044; after 400 steps at the published rate of 1e-3 it is 0.055.

Guidance is the checkpoint's own preset. The rate is ten times the published one: the network is small, and so is what a
number of its rows does.
"""

from ..editors import BackboneConfig, BrushRecipe, WatchConfig
from .brush_preset import BrushPreset

EMBEDDED_INSTRUCTBRUSH = BrushPreset(
    checkpoint=BackboneConfig(model="embedded", offline=True),
    recipe=BrushRecipe(steps=300, learning_rate=1e-2),
    watch=WatchConfig(every=100),
)
