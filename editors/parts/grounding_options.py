"""Options of the segmenters and of the captioner, in a file that imports nothing heavy.

The defaults are InstructEdit's (arXiv 2305.18047) where its code gives them.
"""

from dataclasses import dataclass, replace
from typing import Literal

from ..core.checkpoint import EMBEDDED

Segmenter = Literal["grounded-sam", "clipseg"]
"""How a phrase becomes a mask: boxes of GroundingDINO filled in by SAM, or the map of CLIPSeg."""
MaskMode = Literal["auto", "max", "merge", "first"]
"""Which of the objects found for a phrase are taken."""


@dataclass(frozen=True, kw_only=True)
class GroundingConfig:
    """Which models find the objects, and from which score on."""

    segmenter: Segmenter | None = None
    """`grounded-sam` or `clipseg`; None = clipseg of the embedded set with `--model embedded`, else grounded-sam."""
    detector: str = "IDEA-Research/grounding-dino-tiny"
    """GroundingDINO: a folder or a hub id; published: Swin-T."""
    sam: str = "sam_vit_h_4b8939.pth"
    """SAM of any size: a .safetensors file, or a published .pth, also looked up under the model folder."""
    clipseg: str = "CIDAS/clipseg-rd64-refined"
    """CLIPSeg: a folder, a hub id, or `embedded` (knows only the blocks world)."""
    box_threshold: float = 0.30
    """Score from which GroundingDINO's boxes count, in [0, 1)."""
    text_threshold: float = 0.25
    """Score from which a word counts as named by a box, in [0, 1); labels only, no box depends on it."""
    retry_thresholds: tuple[float, ...] = (0.2, 0.15)
    """Lower box thresholds tried in turn before giving up, each in [0, 1); none = give up at once."""
    mask_threshold: float | None = None
    """Probability from which CLIPSeg's pixels count, in [0, 1); None = the checkpoint's own, 0.5 for the published."""
    min_area: float = 0.002
    """Share of the picture from which a region of CLIPSeg counts, in [0, 1); one square of the published network covers
    0.002, and what is smaller is a stray speck. 0 = every pixel counts."""
    mask_mode: MaskMode = "auto"
    """`max`: the object of the highest score; `merge`: all; `first`: the first one listed, as the published code does;
    `auto`: merge for plural names, else max."""

    def __post_init__(self) -> None:
        for name in ("box_threshold", "text_threshold", "mask_threshold", "min_area"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value:g}")
        if not all(0 <= value < 1 for value in self.retry_thresholds):
            raise ValueError(f"retry_thresholds must be in [0, 1), got {self.retry_thresholds}")

    def resolved(self, *, embedded: bool) -> "GroundingConfig":
        """With the segmenter that is meant where none is named.

        Args:
            embedded: whether the editor itself runs on the embedded set.
        """
        if self.segmenter is not None:
            return self
        return (
            replace(self, segmenter="clipseg", clipseg=EMBEDDED)
            if embedded
            else replace(self, segmenter="grounded-sam")
        )


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """Whether and with which model pictures are described before the instruction is understood."""

    enabled: bool = False
    """Describe the picture and show the description to the language processor."""
    model: str = "Salesforce/blip2-flan-t5-xl"
    """BLIP-2: a folder or a hub id."""
    question: str = "Question: What kind of picture is this, a photo, a painting, a drawing or other art? Answer:"
    """What is asked first; the answer begins the description ("Photo of ...")."""
    max_new_tokens: int = 20
    """Longest answer to each of the two questions, in tokens, at least 1."""

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError("question must be some text, got none")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
