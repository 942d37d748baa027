"""What the bench of SmartEdit measures, on which checkpoints, with which settings; light."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ..editors import FoIConfig, InstructEditConfig, IP2PConfig, SmartEditConfig
from .blocks import Split
from .blocks.reading import ReadingSet, Wording

SmartEditMethod: TypeAlias = Literal["unedited", "truth", "ip2p", "foi", "instructedit", "smartedit"]
Combinations: TypeAlias = Wording | Literal["any"]
METHODS: tuple[SmartEditMethod, ...] = get_args(SmartEditMethod)


@dataclass(frozen=True, kw_only=True)
class SmartEditBenchConfig:
    """What to measure."""

    out: Path = Path("outputs/smartedit_bench")
    """Folder of pictures, strips and figures; a run with the same settings goes on in it."""
    methods: tuple[SmartEditMethod, ...] = ()
    """Methods to measure, in the order of the strips; none = all, without smartedit where the embedded set has none."""
    variants: tuple[str, ...] = ()
    """Further checkpoints as NAME=FOLDER, such as ablations; one of SmartEdit is run with the options of `smartedit`,
    one of InstructPix2Pix with those of `ip2p`."""
    smartedit_model: str | None = None
    """Folder of the SmartEdit checkpoint; None = that of --model."""
    sets: tuple[ReadingSet, ...] = get_args(ReadingSet)
    """Sets of the blocks world."""
    phrasings: tuple[Wording, ...] = get_args(Wording)
    """Whether the words of edits in training, words that they never use, or both."""
    combinations: Combinations = "any"
    """Of edit, colour and shape: those that training may use, those that it never uses, or whatever is drawn (in the
    training split the first)."""
    scenes: int = 200
    """Pictures of each set in each phrasing, at least 1."""
    split: Split = "test"
    """Where they are from: `validation` to choose settings, `test` for figures."""
    batch: int = 25
    """Pictures rendered and measured at once, at least 1; what is measured does not depend on it."""
    reason_edit: Path | None = None
    """Folder of Reason-Edit, as it is downloaded, to measure in place of the blocks world; None = the blocks world."""
    clip: str | None = None
    """CLIP that compares what was edited with its label: `embedded` (the blocks world), a folder or a hub id (the
    paper's is openai/clip-vit-large-patch14); None = none, and no score by it."""
    ip2p: IP2PConfig = field(default_factory=IP2PConfig)
    foi: FoIConfig = field(default_factory=FoIConfig)
    instructedit: InstructEditConfig = field(default_factory=InstructEditConfig)
    smartedit: SmartEditConfig = field(default_factory=SmartEditConfig)

    def __post_init__(self) -> None:
        for name in ("sets", "phrasings"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one, got none")
        for name in ("scenes", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for text in self.variants:
            name, equals, folder = text.partition("=")
            if not (re.fullmatch(r"\w[\w.-]*", name) and equals and folder.strip()):
                raise ValueError(f"variants must be NAME=FOLDER, the name of letters, digits, - and ., got {text!r}")
            if name in METHODS:
                raise ValueError(f"variants must have names of their own, got {name!r}, which is a method")
        names = [*self.methods, *(text.partition("=")[0] for text in self.variants)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"methods and variants must each be named once, got {twice[0]!r} twice")
