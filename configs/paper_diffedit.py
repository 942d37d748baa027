"""DiffEdit (arXiv 2210.11427) with the published settings, on Stable Diffusion 1.5.

Command:   maskedit edit photo.jpg --preset paper-diffedit --source-caption "photo of a dog" --target-caption "photo of
           a fox"
Hardware:  one GPU with about 8 GB of memory is expected to do; not measured.
Minutes:   not measured.
Scores:    not measured here.

50 DDIM steps of which half are inverted and run again, guidance 7.5, a mask from ten differences of noise at half the
noise range, clipped at three times their mean and cut at 0.5, and pixels outside it as the model leaves them.
"""

from ..editors import BackboneConfig, DiffEditConfig
from .preset import EditPreset

PAPER_DIFFEDIT = EditPreset(
    checkpoint=BackboneConfig(model="stable-diffusion-v1-5/stable-diffusion-v1-5"),
    options=DiffEditConfig(
        steps=50,
        guidance_scale=7.5,
        encoding_ratio=0.5,
        mask_threshold=0.5,
        mask_maps=10,
        mask_strength=0.5,
        mask_clip=3.0,
        keep_outside="paper",
    ),
)
