"""InstructPix2Pix on the embedded set: small pictures of the blocks world, anywhere, without a network.

Command:   maskedit edit blocks.png --preset embedded-ip2p --instruction "make the red cube blue"
Hardware:  any CPU.
Minutes:   seconds per picture.
Scores:    in editors/embedded/README.md where they have been measured; `maskedit bench foi --model embedded` measures
           them beside FoI's.

Steps and guidance are the checkpoint's own preset. The editor has no mask of its own, so the whole picture may change
unless `--mask` is given.
"""

from ..editors import BackboneConfig, IP2PConfig
from .preset import EditPreset

EMBEDDED_IP2P = EditPreset(checkpoint=BackboneConfig(model="embedded", offline=True), options=IP2PConfig())
