"""InstructEdit on the embedded set: small pictures of the blocks world, anywhere, without a network.

Command:   maskedit edit blocks.png --preset embedded-instructedit --instruction "make the red cube blue"
Hardware:  any CPU.
Minutes:   seconds per picture are expected; not measured.
Scores:    in editors/embedded/README.md where they have been measured.

The checkpoint's own preset holds steps, guidance and encoding ratio; its own segmenter finds the objects, and rules
of grammar read the instruction, so that no network is needed.
"""

from ..editors import BackboneConfig, InstructEditConfig
from .preset import EditPreset

EMBEDDED_INSTRUCTEDIT = EditPreset(
    checkpoint=BackboneConfig(model="embedded", offline=True), options=InstructEditConfig()
)
