"""InstructPix2Pix as published (arXiv 2211.09800): 100 Euler ancestral steps from noise, guidance 7.5 and 1.5.

Command:   maskedit edit photo.jpg --preset paper-ip2p --instruction "make it snow"
Hardware:  one GPU with about 8 GB of memory is expected to do; not measured.
Minutes:   not measured.
Scores:    the paper reports CLIP similarities on its own validation pairs; not measured here.
"""

from ..editors import BackboneConfig, IP2PConfig
from .preset import EditPreset

PAPER_IP2P = EditPreset(
    checkpoint=BackboneConfig(model="timbrooks/instruct-pix2pix"),
    options=IP2PConfig(
        sampler="euler_ancestral",
        steps=100,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        noise_level=1.0,
        keep_outside="paper",
    ),
)
