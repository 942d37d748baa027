"""FoI on the embedded set: small pictures of the blocks world, anywhere, without a network.

Command:   maskedit edit blocks.png --preset embedded-foi --instruction "make the red cube blue"
Hardware:  any CPU.
Minutes:   seconds per picture; the set itself takes hours of a CPU, or minutes of a GPU, to train.
Scores:    in editors/embedded/README.md where they have been measured; `maskedit bench foi --model embedded` measures
           them.

Steps, guidance and mask settings are the checkpoint's own preset, chosen on validation scenes. The set's localisation
is trained in, so its masks say nothing about the published checkpoint's.
"""

from ..editors import BackboneConfig, FoIConfig
from .preset import EditPreset

EMBEDDED_FOI = EditPreset(checkpoint=BackboneConfig(model="embedded", offline=True), options=FoIConfig())
