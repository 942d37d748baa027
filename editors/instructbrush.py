"""InstructBrush: Learning Attention-based Instruction Optimization for Image Editing (arXiv 2403.18660), section 4.

An InstructPix2Pix pass whose instruction is a brush: keys and values of the cross-attention that before/after pairs
taught, of their own for each part of the noise range. Learning one is `parts/brush_learning.py`.
"""

from .core.backbone import Backbone
from .parts.brush import Brush
from .parts.brush_editor import BrushEditor
from .parts.brush_options import InstructBrushConfig
from .parts.tools import Tools


class InstructBrush(BrushEditor):
    """InstructBrush on the shared core."""

    def __init__(
        self,
        backbone: Backbone,
        config: InstructBrushConfig | None = None,
        *,
        tools: Tools | None = None,
        brush: Brush | None = None,
    ) -> None:
        """Edit by a brush: the one given, or the file that the settings name; see `BrushEditor`."""
        super().__init__("instructbrush", backbone, config or InstructBrushConfig(), tools=tools, brush=brush)
