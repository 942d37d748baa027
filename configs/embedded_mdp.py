"""MDP on the embedded set: small pictures of the blocks world, anywhere, without a network.

Command:   maskedit edit blocks.png --preset embedded-mdp --instruction "make the red cube blue"
Hardware:  any CPU.
Minutes:   seconds per picture are expected; not measured.
Scores:    in editors/embedded/README.md where they have been measured.

The checkpoint's own preset holds steps and guidance. The editor has no mask of its own, so the whole picture may
change unless `--mask` is given.
"""

from ..editors import BackboneConfig, MDPConfig
from .preset import EditPreset

EMBEDDED_MDP = EditPreset(checkpoint=BackboneConfig(model="embedded", offline=True), options=MDPConfig())
