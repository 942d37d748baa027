"""Visii: Visual Instruction Inversion, Image Editing via Visual Prompting (arXiv 2307.14331), section 4.

An InstructPix2Pix pass whose instruction is a text embedding that before/after pairs taught, the same at all times.
Further instructions are said beside it, which the paper calls hybrid.
"""

from .core.backbone import Backbone
from .parts.brush import Brush
from .parts.brush_editor import BrushEditor
from .parts.brush_options import VisiiConfig
from .parts.tools import Tools


class Visii(BrushEditor):
    """Visii on the shared core."""

    def __init__(
        self,
        backbone: Backbone,
        config: VisiiConfig | None = None,
        *,
        tools: Tools | None = None,
        brush: Brush | None = None,
    ) -> None:
        """Edit by a brush: the one given, or the file that the settings name; see `BrushEditor`."""
        super().__init__("visii", backbone, config or VisiiConfig(), tools=tools, brush=brush)
