"""Every preset as a typed instance, one file per experiment; `maskedit edit --preset NAME` runs them by name."""

from typing import Literal

from .embedded_foi import EMBEDDED_FOI as EMBEDDED_FOI
from .embedded_ip2p import EMBEDDED_IP2P as EMBEDDED_IP2P
from .paper_foi import PAPER_FOI as PAPER_FOI
from .paper_ip2p import PAPER_IP2P as PAPER_IP2P
from .preset import EditPreset as EditPreset

PresetName = Literal["embedded-foi", "embedded-ip2p", "paper-foi", "paper-ip2p"]

PRESETS: dict[PresetName, EditPreset] = {
    "embedded-foi": EMBEDDED_FOI,
    "embedded-ip2p": EMBEDDED_IP2P,
    "paper-foi": PAPER_FOI,
    "paper-ip2p": PAPER_IP2P,
}
"""Presets by the name the command line uses."""
