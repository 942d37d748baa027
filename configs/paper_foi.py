"""FoI as published: Focus on Your Instruction (arXiv 2312.10113, section 5.1), on the published InstructPix2Pix.

Command:   maskedit edit photo.jpg --preset paper-foi --instruction "make the cat a tiger"
Hardware:  one GPU with about 8 GB of memory is expected to do; not measured.
Minutes:   not measured.
Scores:    the paper reports user studies and CLIP scores on its own pictures; not measured here.

100 Euler ancestral steps over the noise range of which the last 80% are run, guidance 7.5 and 1.5, three squarings,
tau drawn from U(0.4, 0.7), and pixels outside the mask as the model leaves them. `--keep-outside exact` puts the
photo's own pixels back there.
"""

from ..editors import BackboneConfig, FoIConfig
from .preset import EditPreset

PAPER_FOI = EditPreset(
    checkpoint=BackboneConfig(model="timbrooks/instruct-pix2pix"),
    options=FoIConfig(
        sampler="euler_ancestral",
        steps=100,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        noise_level=0.8,
        mask_threshold="sample",
        mask_squarings=3,
        mask_stride=4,
        mask_stages=("down", "mid", "up"),
        keep_outside="paper",
    ),
)
