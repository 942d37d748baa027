"""Visii on the embedded set: the baseline of a text embedding, learned from the same small pairs.

Command:   maskedit brush learn PAIRS --preset embedded-visii
Hardware:  any CPU.
Minutes:   two for its thousand steps on a core of its own, 0.12 s each.
Scores:    not measured.

Guidance is the checkpoint's own preset; everything else is the published recipe, but for a shorter search of the
caption, whose tokens are the words of the blocks world. The set's CLIP has a text encoder of its own: its projection
was trained to read the editor's hidden states, too.
"""

from ..editors import BackboneConfig, BrushRecipe, CaptionSearchConfig, WatchConfig
from .brush_preset import BrushPreset

EMBEDDED_VISII = BrushPreset(
    checkpoint=BackboneConfig(model="embedded", offline=True),
    recipe=BrushRecipe(
        kind="visii",
        learn="embedding",
        segments=1,
        weight_decay=1e-2,
        direction_weight=0.1,
        clip_values=True,
        keep="lowest",
    ),
    clip="embedded",
    start="content",
    caption=CaptionSearchConfig(tokens=6, steps=300),
    watch=WatchConfig(every=250, patience=0),
)
