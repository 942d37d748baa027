"""InstructBrush as published (arXiv 2403.18660), section 6, and its ablations in section 6.3.

Command:   maskedit brush learn PAIRS --preset paper-instructbrush --shots 10
Hardware:  the paper used one V100; the authors' code names more than 18 GB of memory. --chunk 1 needs least.
Minutes:   about 25 for each edit in the paper; not measured here.
Scores:    the paper reports PSNR 20.68, SSIM 0.692, LPIPS 0.192 on its own benchmark; not measured here.

The numbers of the guidance are lost in the published text; these are InstructPix2Pix's and Visii's. Steps are of each
segment. The ablation without time has one segment for as many steps as all five have together; the one without
initialisation starts from a caption of the pictures after the edit, as Visii does. The paper does not name its CLIP.
"""

from ..editors import BackboneConfig, BrushRecipe, WatchConfig
from .brush_preset import BrushPreset

_CHECKPOINT = BackboneConfig(model="timbrooks/instruct-pix2pix")
_CLIP = "openai/clip-vit-large-patch14"
_WATCH = WatchConfig(every=250, patience=0)

PAPER_INSTRUCTBRUSH = BrushPreset(
    checkpoint=_CHECKPOINT,
    recipe=BrushRecipe(guidance_scale=7.5, image_guidance_scale=1.5),
    clip=_CLIP,
    watch=_WATCH,
)
PAPER_INSTRUCTBRUSH_WITHOUT_TIME = BrushPreset(
    checkpoint=_CHECKPOINT,
    recipe=BrushRecipe(guidance_scale=7.5, image_guidance_scale=1.5, segments=1, steps=5000),
    clip=_CLIP,
    watch=_WATCH,
)
PAPER_INSTRUCTBRUSH_WITHOUT_ATTENTION = BrushPreset(
    checkpoint=_CHECKPOINT,
    recipe=BrushRecipe(guidance_scale=7.5, image_guidance_scale=1.5, learn="embedding"),
    clip=_CLIP,
    watch=_WATCH,
)
PAPER_INSTRUCTBRUSH_WITHOUT_INIT = BrushPreset(
    checkpoint=_CHECKPOINT,
    recipe=BrushRecipe(guidance_scale=7.5, image_guidance_scale=1.5),
    clip=_CLIP,
    start="content",
    watch=_WATCH,
)
