"""Visii as published (arXiv 2307.14331), section 4, without its direction of CLIP.

Command:   maskedit brush learn PAIRS --preset paper-visii --init-text "a watercolor painting of a lake"
Hardware:  one GPU; not measured.
Minutes:   not measured.
Scores:    InstructBrush's paper reports PSNR 17.14, SSIM 0.592, LPIPS 0.330 on its own benchmark; not measured here.

The initial text is a caption of the picture after the edit; the published code searches one. It keeps the embedding of
the lowest single step.
"""

from ..editors import BackboneConfig, BrushRecipe, WatchConfig
from .brush_preset import BrushPreset

PAPER_VISII = BrushPreset(
    checkpoint=BackboneConfig(model="timbrooks/instruct-pix2pix"),
    recipe=BrushRecipe(
        kind="visii",
        learn="embedding",
        segments=1,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        keep="lowest",
    ),
    watch=WatchConfig(every=250, patience=0),
)
