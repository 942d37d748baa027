"""DiffEdit on the embedded set: small pictures of the blocks world, anywhere, without a network.

Command:   maskedit edit blocks.png --preset embedded-diffedit --instruction "make the red cube blue"
Hardware:  any CPU.
Minutes:   seconds per picture are expected; not measured.
Scores:    in editors/embedded/README.md where they have been measured.

The checkpoint's own preset holds steps, guidance, encoding ratio and the mask's threshold. Rules of grammar write the
captions; `--source-caption` and `--target-caption` take their place.
"""

from ..editors import BackboneConfig, DiffEditConfig
from .preset import EditPreset

EMBEDDED_DIFFEDIT = EditPreset(checkpoint=BackboneConfig(model="embedded", offline=True), options=DiffEditConfig())
