"""Visii on the embedded set: the baseline of a text embedding, learned from the same small pairs.

Command:   maskedit brush learn PAIRS --preset embedded-visii
Hardware:  any CPU.
Minutes:   two for its thousand steps on a core of its own, 0.1 s each.
Scores:    ten pairs of the bench's edit "faded" from validation scenes, five held out: 28.4 dB to the truth from a
           caption that was given (23.4 at a rate of 1e-2); by the best words 19.0, doing nothing has 17.9.

Guidance is the checkpoint's own preset. Beside it, three things differ from the published recipe: the rate is a hundred
times as high, the last tensors are kept, since those of the lowest single loss are almost arbitrary ones, and the
search of the caption is shorter, whose tokens are the words of the blocks world. The set's CLIP has a text encoder of
its own: its projection was trained to read the editor's hidden states, too.
"""

from ..editors import BackboneConfig, BrushRecipe, CaptionSearchConfig, WatchConfig
from .brush_preset import BrushPreset

EMBEDDED_VISII = BrushPreset(
    checkpoint=BackboneConfig(model="embedded", offline=True),
    recipe=BrushRecipe(
        kind="visii",
        learn="embedding",
        segments=1,
        learning_rate=1e-1,
        weight_decay=1e-2,
        direction_weight=0.1,
        clip_values=True,
    ),
    clip="embedded",
    start="content",
    caption=CaptionSearchConfig(tokens=6, steps=300),
    watch=WatchConfig(every=250, patience=0),
)
