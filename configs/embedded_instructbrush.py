"""InstructBrush on the embedded set: an edit of the blocks world learned from a handful of small pairs.

Command:   maskedit brush learn PAIRS --preset embedded-instructbrush
Hardware:  any CPU.
Minutes:   about six on a core that had other work to do.
Scores:    five pairs of red blocks turned blue, four others held out, from "make the red cube blue" (--init-text), so
           without phrases of the set's CLIP, which this preset starts from: their loss is least after 100
           steps, 0.044 (0.072 after 100 steps at the published rate, 0.055 after 400). PSNR of the four held out goes
           from 29.5, 13.3, 25.5 and 17.3 dB by the text to 30.6, 13.9, 28.1 and 23.6 by the brush; doing nothing has
           19.5, 26.4, 21.0 and 25.2, since in two of them it paints another block than the red one that was meant.

Guidance is the checkpoint's own preset. The rate is ten times the published one: the network is small, and so is what a
number of its rows does.
"""

from ..editors import BackboneConfig, BrushRecipe, WatchConfig
from .brush_preset import BrushPreset

EMBEDDED_INSTRUCTBRUSH = BrushPreset(
    checkpoint=BackboneConfig(model="embedded", offline=True),
    recipe=BrushRecipe(steps=300, learning_rate=1e-2),
    clip="embedded",
    watch=WatchConfig(every=100),
)
