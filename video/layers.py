"""The layers of a clip: which pixels of each frame belong to what is fitted by itself.

Layer masks come from files, or from phrases: a segmenter looks for them in key frames, and what it finds is carried to
the frames between by the flow (`propagate.py`). What no layer claims is the background; where layers overlap, the later
one lies on top. Masks keep soft edges, so that layers can be put together again without a seam.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..editors import Grounder, InputError, NothingFoundError, read_json, write_json
from .mask_files import read_masks, write_masks
from .propagate import FlowBetween, propagate_masks
from .timeline import Timeline

_NAMES = "layers.json"


@dataclass(frozen=True, kw_only=True)
class LayersConfig:
    """What is fitted by itself, apart from the background; by default nothing is."""

    masks: tuple[Path, ...] = ()
    """For each layer a folder with one mask picture a frame, or a video of masks; white = inside."""
    phrases: tuple[str, ...] = ()
    """Things to look for, one layer each, on top of those from files."""
    key_every: int = 8
    """Frames from one key frame, in which phrases are looked for, to the next, at least 1; 4 follows fast motion
    better."""
    threshold: float = 0.5
    """Share of the key frames' answers from which a pixel between them is inside, above 0 and below 1."""

    def __post_init__(self) -> None:
        if self.key_every < 1:
            raise ValueError(f"key_every must be at least 1, got {self.key_every}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be above 0 and below 1, got {self.threshold:g}")

    @property
    def count(self) -> int:
        """Layers apart from the background."""
        return len(self.masks) + len(self.phrases)


@dataclass(frozen=True, kw_only=True)
class LayerMasks:
    """Masks of the layers apart from the background, from the lowest to the topmost."""

    values: UInt8[Tensor, "layer frame 1 height width"]
    """255 = inside; soft edges lie between."""
    names: tuple[str, ...]
    """What the layers are called."""

    def shares(self, rows: slice = slice(None)) -> Float[Tensor, "all_layers frame2 1 height width"]:
        """How much of every pixel each layer makes up; they add up to 1, and the background comes first.

        Args:
            rows: which frames.
        """
        left = torch.ones_like(self.values[0, rows], dtype=torch.float32)
        shares: list[Tensor] = []
        for values in self.values[:, rows].flip(0):
            mask = values.float() / 255
            shares.append(left * mask)
            left = left * (1 - mask)
        return torch.stack([left, *reversed(shares)])


def make_layers(
    config: LayersConfig,
    frames: UInt8[Tensor, "frame 3 height width"],
    *,
    flow: FlowBetween | None = None,
    grounder: Grounder | None = None,
    timeline: Timeline | None = None,
) -> LayerMasks | None:
    """The layers of a clip; None if nothing is to be fitted by itself.

    Args:
        config: what.
        frames: of the clip, at working size.
        flow: between them, needed for phrases: `ClipFlow.between`.
        grounder: finds phrases; needed for them.
        timeline: which piece of its source the clip is, see `read_masks`.

    Raises:
        InputError: if mask files do not fit the clip, or a phrase is empty or too long.
        NothingFoundError: if a phrase is found in no key frame.
    """
    if not config.count:
        return None
    count, _, height, width = frames.shape
    parts = [
        read_masks(path, frames=count, height=height, width=width, timeline=timeline)[None] for path in config.masks
    ]
    if config.phrases:
        if flow is None or grounder is None:
            raise InputError("phrases need a segmenter and flow to follow what it finds: give both, or mask files")
        known = [find_key_masks(frames, phrase, grounder, every=config.key_every) for phrase in config.phrases]
        parts.append(propagate_masks(known, flow, frames=count, threshold=config.threshold))
    names = (*(Path(path).stem for path in config.masks), *config.phrases)
    return LayerMasks(values=torch.cat(parts), names=names)


def key_frames(frames: int, every: int) -> tuple[int, ...]:
    """Numbers of the frames in which phrases are looked for: every so many, the first and the last."""
    return tuple(sorted({*range(0, frames, every), frames - 1}))


def find_key_masks(
    frames: UInt8[Tensor, "frame 3 height width"], phrase: str, grounder: Grounder, *, every: int
) -> dict[int, Float[Tensor, "1 height width"]]:
    """What answers a phrase in the key frames where anything does, by number of the frame.

    Args:
        frames: of the clip.
        phrase: what to look for.
        grounder: finds it.
        every: frames from one key frame to the next.

    Raises:
        NothingFoundError: if it is found in none; the error is that of the frame with the best score.
        InputError: if the phrase is empty or too long.
    """
    found: dict[int, Tensor] = {}
    failures: list[NothingFoundError] = []
    for frame in key_frames(len(frames), every):
        try:
            ((answer,),) = grounder.ground(frames[frame : frame + 1].float() / 255, [phrase])
        except NothingFoundError as failure:
            failures.append(failure)
        else:
            found[frame] = answer.mask
    if not found:
        raise max(failures, key=lambda failure: -1.0 if failure.score is None else failure.score)
    return found


def write_layers(folder: Path, layers: LayerMasks) -> None:
    """Write layers as a folder of pictures each, which can be mended by hand and handed in as mask files.

    The names are written last: without them, `read_layers` takes the folder for unfinished.

    Raises:
        InputError: if the disk refuses.
    """
    (folder / _NAMES).unlink(missing_ok=True)
    for number, values in enumerate(layers.values, start=1):
        write_masks(folder / f"layer_{number}", values)
    hint = "make room, or choose another folder"
    write_json(folder / _NAMES, {"names": layers.names}, hint=hint, error=InputError)


def read_layers(folder: Path, *, frames: int, height: int, width: int) -> LayerMasks:
    """The layers of `write_layers`.

    Raises:
        SessionError: if the folder is not one, or unfinished.
        InputError: if the masks do not fit the clip.
    """
    names = read_json(folder / _NAMES, hint="make the layer masks anew")["names"]
    values = [
        read_masks(folder / f"layer_{number}", frames=frames, height=height, width=width)
        for number in range(1, len(names) + 1)
    ]
    return LayerMasks(values=torch.stack(values), names=tuple(names))
