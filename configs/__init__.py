"""Every preset as a typed instance, one file per experiment; `maskedit edit --preset NAME` runs them by name."""

from typing import Literal

from .brush_preset import BrushPreset as BrushPreset
from .embedded_diffedit import EMBEDDED_DIFFEDIT as EMBEDDED_DIFFEDIT
from .embedded_foi import EMBEDDED_FOI as EMBEDDED_FOI
from .embedded_inpaint import EMBEDDED_INPAINT as EMBEDDED_INPAINT
from .embedded_instructbrush import EMBEDDED_INSTRUCTBRUSH as EMBEDDED_INSTRUCTBRUSH
from .embedded_instructedit import EMBEDDED_INSTRUCTEDIT as EMBEDDED_INSTRUCTEDIT
from .embedded_ip2p import EMBEDDED_IP2P as EMBEDDED_IP2P
from .embedded_mdp import EMBEDDED_MDP as EMBEDDED_MDP
from .embedded_visii import EMBEDDED_VISII as EMBEDDED_VISII
from .paper_diffedit import PAPER_DIFFEDIT as PAPER_DIFFEDIT
from .paper_foi import PAPER_FOI as PAPER_FOI
from .paper_instructbrush import PAPER_INSTRUCTBRUSH as PAPER_INSTRUCTBRUSH
from .paper_instructbrush import PAPER_INSTRUCTBRUSH_WITHOUT_ATTENTION as PAPER_INSTRUCTBRUSH_WITHOUT_ATTENTION
from .paper_instructbrush import PAPER_INSTRUCTBRUSH_WITHOUT_INIT as PAPER_INSTRUCTBRUSH_WITHOUT_INIT
from .paper_instructbrush import PAPER_INSTRUCTBRUSH_WITHOUT_TIME as PAPER_INSTRUCTBRUSH_WITHOUT_TIME
from .paper_instructedit import PAPER_INSTRUCTEDIT as PAPER_INSTRUCTEDIT
from .paper_ip2p import PAPER_IP2P as PAPER_IP2P
from .paper_smartedit_stage1 import PAPER_SMARTEDIT_STAGE1 as PAPER_SMARTEDIT_STAGE1
from .paper_smartedit_stage2 import PAPER_SMARTEDIT_STAGE2A as PAPER_SMARTEDIT_STAGE2A
from .paper_smartedit_stage2 import PAPER_SMARTEDIT_STAGE2B as PAPER_SMARTEDIT_STAGE2B
from .paper_visii import PAPER_VISII as PAPER_VISII
from .preset import EditPreset as EditPreset
from .smartedit_preset import SmartEditPreset as SmartEditPreset

PresetName = Literal[
    "embedded-foi",
    "embedded-ip2p",
    "embedded-instructedit",
    "embedded-diffedit",
    "embedded-mdp",
    "embedded-inpaint",
    "paper-foi",
    "paper-ip2p",
    "paper-instructedit",
    "paper-diffedit",
]

PRESETS: dict[PresetName, EditPreset] = {
    "embedded-foi": EMBEDDED_FOI,
    "embedded-ip2p": EMBEDDED_IP2P,
    "embedded-instructedit": EMBEDDED_INSTRUCTEDIT,
    "embedded-diffedit": EMBEDDED_DIFFEDIT,
    "embedded-mdp": EMBEDDED_MDP,
    "embedded-inpaint": EMBEDDED_INPAINT,
    "paper-foi": PAPER_FOI,
    "paper-ip2p": PAPER_IP2P,
    "paper-instructedit": PAPER_INSTRUCTEDIT,
    "paper-diffedit": PAPER_DIFFEDIT,
}
"""Presets by the name the command line uses."""

BrushPresetName = Literal[
    "embedded-instructbrush",
    "embedded-visii",
    "paper-instructbrush",
    "paper-instructbrush-without-time",
    "paper-instructbrush-without-attention",
    "paper-instructbrush-without-init",
    "paper-visii",
]

BRUSH_PRESETS: dict[BrushPresetName, BrushPreset] = {
    "embedded-instructbrush": EMBEDDED_INSTRUCTBRUSH,
    "embedded-visii": EMBEDDED_VISII,
    "paper-instructbrush": PAPER_INSTRUCTBRUSH,
    "paper-instructbrush-without-time": PAPER_INSTRUCTBRUSH_WITHOUT_TIME,
    "paper-instructbrush-without-attention": PAPER_INSTRUCTBRUSH_WITHOUT_ATTENTION,
    "paper-instructbrush-without-init": PAPER_INSTRUCTBRUSH_WITHOUT_INIT,
    "paper-visii": PAPER_VISII,
}
"""Presets of learning by the name the command line uses."""

SmartEditPresetName = Literal["paper-smartedit-stage1", "paper-smartedit-stage2a", "paper-smartedit-stage2b"]

SMARTEDIT_PRESETS: dict[SmartEditPresetName, SmartEditPreset] = {
    "paper-smartedit-stage1": PAPER_SMARTEDIT_STAGE1,
    "paper-smartedit-stage2a": PAPER_SMARTEDIT_STAGE2A,
    "paper-smartedit-stage2b": PAPER_SMARTEDIT_STAGE2B,
}
"""Presets of training SmartEdit by the name the command line uses."""
