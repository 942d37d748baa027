"""Every editor by the name the command line uses, with its options and the kind of checkpoint it needs; light."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from ..core.checkpoint import CheckpointKind
from .brush_options import InstructBrushConfig, VisiiConfig
from .caption_options import DiffEditConfig, InpaintConfig, InstructEditConfig, MDPConfig
from .options import FoIConfig, IP2PConfig
from .smartedit_options import SmartEditConfig

EditorName = Literal["foi", "ip2p", "instructedit", "diffedit", "mdp", "inpaint", "instructbrush", "visii", "smartedit"]
EditorConfig: TypeAlias = (
    FoIConfig
    | IP2PConfig
    | InstructEditConfig
    | DiffEditConfig
    | MDPConfig
    | InpaintConfig
    | InstructBrushConfig
    | VisiiConfig
    | SmartEditConfig
)
_WHERE = frozenset({"mllm_device"})
"""Options that say where something runs."""


@dataclass(frozen=True, kw_only=True)
class EditorEntry:
    """What is known of an editor without loading it."""

    config: type[EditorConfig]
    kind: CheckpointKind
    """Checkpoints it runs on."""
    has_mask: bool
    """Whether it finds by itself where to act; others may change anything, unless a mask is given."""
    draws_noise: bool
    """Whether it starts from fresh noise, whose level dataset updates may draw; others invert the picture."""

    @property
    def reads_captions(self) -> bool:
        """Whether it reads what a picture shows before and after, and runs by its checkpoint's preset for that."""
        return self.kind in ("text-to-image", "inpainting")


EDITORS: dict[EditorName, EditorEntry] = {
    "foi": EditorEntry(config=FoIConfig, kind="instruct-pix2pix", has_mask=True, draws_noise=True),
    "ip2p": EditorEntry(config=IP2PConfig, kind="instruct-pix2pix", has_mask=False, draws_noise=True),
    "instructedit": EditorEntry(config=InstructEditConfig, kind="text-to-image", has_mask=True, draws_noise=False),
    "diffedit": EditorEntry(config=DiffEditConfig, kind="text-to-image", has_mask=True, draws_noise=False),
    "mdp": EditorEntry(config=MDPConfig, kind="text-to-image", has_mask=False, draws_noise=False),
    "inpaint": EditorEntry(config=InpaintConfig, kind="inpainting", has_mask=True, draws_noise=True),
    "instructbrush": EditorEntry(config=InstructBrushConfig, kind="instruct-pix2pix", has_mask=False, draws_noise=True),
    "visii": EditorEntry(config=VisiiConfig, kind="instruct-pix2pix", has_mask=False, draws_noise=True),
    "smartedit": EditorEntry(config=SmartEditConfig, kind="smartedit", has_mask=False, draws_noise=True),
}
"""Every editor; the order is that of lists."""


def name_of(config: EditorConfig) -> EditorName:
    """The editor that some options belong to."""
    return next(name for name, entry in EDITORS.items() if isinstance(config, entry.config))


def options_that_count(config: EditorConfig) -> dict[str, Any]:
    """Options as plain data, without those that say where something runs: work that is kept may go on elsewhere."""
    return {name: value for name, value in asdict(config).items() if name not in _WHERE}
