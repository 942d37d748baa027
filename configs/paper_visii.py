"""Visii as published (arXiv 2307.14331), section 4, with the numbers of its published code.

Command:   maskedit brush learn PAIRS --preset paper-visii
Hardware:  one GPU; not measured.
Minutes:   not measured.
Scores:    InstructBrush's paper reports PSNR 17.14, SSIM 0.592, LPIPS 0.330 on its own benchmark; not measured here.

It starts from a caption of the pictures after the edit, which the published code searches with OpenCLIP's ViT-H/14 and
this preset with the CLIP that also tells where the edit leads. It keeps the embedding of the lowest single step, and
edits in 20 steps there. Its optimiser holds numbers of 8 bits; AdamW with that one's weight decay stands for it.
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
        weight_decay=1e-2,
        direction_weight=0.1,
        clip_values=True,
        keep="lowest",
    ),
    clip="openai/clip-vit-large-patch14",
    start="content",
    watch=WatchConfig(every=250, patience=0),
)
