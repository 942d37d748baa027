"""From a configuration to an editor."""

from typing import assert_never

from .core.backbone import Backbone
from .core.checkpoint import BackboneConfig
from .diffedit import DiffEdit
from .foi import FoI
from .inpaint import Inpaint
from .instructbrush import InstructBrush
from .instructedit import InstructEdit
from .ip2p import IP2P
from .mdp import MDP
from .parts.brush_options import InstructBrushConfig, VisiiConfig
from .parts.caption_options import DiffEditConfig, InpaintConfig, InstructEditConfig, MDPConfig
from .parts.editor_names import EDITORS, EditorConfig, name_of
from .parts.options import FoIConfig, IP2PConfig
from .parts.request import Editor
from .parts.smartedit_options import SmartEditConfig
from .parts.tools import Tools, tools_of
from .smartedit.editor import SmartEdit
from .visii import Visii


def make_editor(
    config: EditorConfig, backbone: Backbone, *, tools: Tools | None = None, api_key: str | None = None
) -> Editor:
    """The editor a configuration describes, on a loaded backbone.

    Args:
        config: which editor, and its options.
        backbone: a checkpoint of the kind it needs.
        tools: those of an editor with other settings on the same backbone; None = those that the options name.
        api_key: key of a language server; None = from the environment variable that the options name.

    Raises:
        ModelError: if the checkpoint is of another kind.
    """
    if isinstance(config, IP2PConfig):
        return IP2P(backbone, config)
    if isinstance(config, InstructBrushConfig):
        return InstructBrush(backbone, config, tools=tools)
    if isinstance(config, VisiiConfig):
        return Visii(backbone, config, tools=tools)
    if isinstance(config, SmartEditConfig):
        return SmartEdit(backbone, config, tools=tools)
    tools = tools or tools_of(config, backbone, api_key=api_key)
    match config:
        case FoIConfig():
            return FoI(backbone, config, tools=tools)
        case InstructEditConfig():
            return InstructEdit(backbone, config, tools=tools)
        case DiffEditConfig():
            return DiffEdit(backbone, config, tools=tools)
        case MDPConfig():
            return MDP(backbone, config, tools=tools)
        case InpaintConfig():
            return Inpaint(backbone, config, tools=tools)
        case _:
            assert_never(config)


def load_editor(config: EditorConfig, backbone: BackboneConfig) -> Editor:
    """Load a checkpoint of the kind an editor needs and put the editor on it.

    Raises:
        ModelError: if the checkpoint is missing or of another kind than the editor needs.
    """
    return make_editor(config, Backbone.load(backbone, EDITORS[name_of(config)].kind))
