"""Grounded inpainting on the embedded set: small pictures of the blocks world, anywhere, without a network.

Command:   maskedit edit blocks.png --preset embedded-inpaint --instruction "make the red cube blue"
Hardware:  any CPU.
Minutes:   seconds per picture are expected; not measured.
Scores:    in editors/embedded/README.md where they have been measured.

The checkpoint's own preset holds steps and guidance; the embedded segmenter finds the objects.
"""

from ..editors import BackboneConfig, InpaintConfig
from .preset import EditPreset

EMBEDDED_INPAINT = EditPreset(checkpoint=BackboneConfig(model="embedded", offline=True), options=InpaintConfig())
