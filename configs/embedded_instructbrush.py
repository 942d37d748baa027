"""InstructBrush on the embedded set: an edit of the blocks world learned from a handful of small pairs.

Command:   maskedit brush learn PAIRS --preset embedded-instructbrush
Hardware:  any CPU.
Minutes:   one on a core of its own, 0.3 s a step.
Scores:    ten pairs of the bench's edit "faded" from validation scenes, five held out: 29.6 dB to the truth (28.4
           after 100 steps; 23.8 and 21.5 then at rates of 3e-2 and 1e-2), by the best words 19.0, by Visii 28.4;
           doing nothing has 17.9, the truth through the autoencoder 35.1. A local edit, "shrink", is not learned:
           18.2 dB, 18.3 by doing nothing. `maskedit bench brush` has the whole table.

Guidance is the checkpoint's own preset. The rate is a hundred times the published one: the network is small, and so is
what a number of its rows does.
"""

from ..editors import BackboneConfig, BrushRecipe, WatchConfig
from .brush_preset import BrushPreset

EMBEDDED_INSTRUCTBRUSH = BrushPreset(
    checkpoint=BackboneConfig(model="embedded", offline=True),
    recipe=BrushRecipe(steps=200, learning_rate=1e-1),
    clip="embedded",
    watch=WatchConfig(every=50),
)
