"""What a run has on disk, as tensors: frames, flow, masks, fields and edits of one segment at a time."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch
from jaxtyping import Float
from torch import Tensor

from ..editors import InputError, SessionError, load_image, load_mask, read_json, save_image
from .canonical import CanonicalImage
from .editing import EditedLayer
from .fit import ClipFit
from .flow import ClipFlow, estimate_flow
from .flow_files import read_flow
from .layers import LayerMasks
from .mask_files import mask_to_bytes
from .options import VideoConfig
from .run import RunFolder
from .segments import Segment
from .stored import StoredClip, open_stored

T = TypeVar("T")
_AT_HAND = 2
"""Segments kept in memory: frames that fade from one into the next need both."""


class RunFiles:
    """The files of a run, read when they are asked for."""

    def __init__(
        self, folder: RunFolder, config: VideoConfig, device: torch.device | str, *, offline: bool = False
    ) -> None:
        """Nothing is read yet.

        Args:
            folder: of the run.
            config: as it is now; what was fitted with which settings stands in the folder.
            device: where fields are computed.
            offline: never fetch weights.
        """
        self.folder, self.config, self.device, self.offline = folder, config, device, offline
        self._edited, self._flow = _Kept[tuple[EditedLayer, ...]](), _Kept[ClipFlow](1)

    def forget(self) -> None:
        """Read everything anew, because files have changed."""
        for name in ("clip", "segments", "_given_flow"):
            self.__dict__.pop(name, None)
        self._edited, self._flow = _Kept(), _Kept(1)

    @cached_property
    def clip(self) -> StoredClip:
        """The working frames."""
        return open_stored(self.folder.root / "frames")

    @property
    def rows(self) -> tuple[slice, ...]:
        """The frames of each segment."""
        return tuple(slice(start, stop) for start, stop in self.folder.value("segments"))

    @cached_property
    def segments(self) -> "StoredSegments":
        """All fitted segments, each read when it is asked for."""
        return StoredSegments(self)

    @property
    def layers(self) -> int:
        """How many layers there are, the background included."""
        return 1 + len(self._layer_names())

    def find_flow(self, rows: slice) -> ClipFlow:
        """The motion of some frames, out of the files that were given or computed; it is not stored."""
        if self.config.flow.files is not None:
            return self._given_flow.between(rows.start, rows.stop)
        return estimate_flow(self.clip.rows(rows), self.config.flow, self.device, offline=self.offline)

    @cached_property
    def _given_flow(self) -> ClipFlow:
        """Of the whole clip: files say nothing of segments."""
        path, clip = self.config.flow.files, self.clip
        if path is None:
            raise InputError("expected files of flow, none were given: name them with --flow.files")
        return read_flow(path, frames=len(clip), height=clip.height, width=clip.width, config=self.config.flow)

    def flow(self, segment: int) -> ClipFlow:
        """The motion within a segment; that of the last one stays in memory."""
        return self._flow.get(segment, self._read_flow)

    def _read_flow(self, segment: int) -> ClipFlow:
        rows = self.rows[segment]
        return read_flow(
            self.folder.segment_path("flow", segment, ".npz"),
            frames=rows.stop - rows.start,
            height=self.clip.height,
            width=self.clip.width,
            config=self.config.flow,
        )

    def flow_between(self, start: int, stop: int) -> ClipFlow:
        """The motion of the frames from `start` up to but not with `stop`, from all segments that hold some of it."""
        parts: list[ClipFlow] = []
        first = start
        while first < stop - 1:
            holding = [n for n, rows in enumerate(self.rows) if rows.start <= first and first + 1 < rows.stop]
            if holding:
                rows = self.rows[holding[-1]]
                last = min(stop, rows.stop)
                parts.append(self.flow(holding[-1]).between(first - rows.start, last - rows.start))
            else:
                # Segments that do not overlap leave out the step from one to the next.
                last = first + 2
                parts.append(self.find_flow(slice(first, last)))
            first = last - 1
        names = ("forward", "backward", "forward_confident", "backward_confident")
        return ClipFlow(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in names}, method=parts[0].method
        )

    def masks(self, rows: slice) -> Float[Tensor, "layer frame 1 height width"] | None:
        """Share of each layer at every pixel of some frames; None = there is but one layer."""
        names = self._layer_names()
        if not names:
            return None
        values = [
            torch.cat([load_mask(self.mask_path(n, row)) for row in _all(rows)]) for n in range(1, len(names) + 1)
        ]
        return LayerMasks(values=mask_to_bytes(torch.stack(values)), names=names).shares()

    def mask_path(self, layer: int, row: int) -> Path:
        """The mask of a layer in one frame; the first layer apart from the background is 1."""
        return self.folder.root / "masks" / f"layer_{layer}" / f"frame_{row:05d}.png"

    def segment(self, number: int) -> Segment:
        """A fitted segment."""
        rows = self.rows[number]
        fit = ClipFit.load(self.folder.segment_path("fit", number, ".safetensors"), self.device)
        return Segment(rows=rows, fit=fit, masks=self.masks(rows))

    def save_canonical(self, segment: int, layer: int, shown: CanonicalImage) -> None:
        """Write a canonical image, and what frames see of it."""
        save_image(shown.image, self.layer_path("canonical", segment, layer, ".png"))
        save_image(shown.seen.float(), self.layer_path("canonical", segment, layer, "_seen.png"))

    def save_edited(self, segment: int, layer: int, edited: EditedLayer) -> None:
        """Write an edited canonical image and its mask; the original is that of `save_canonical`."""
        save_image(edited.edited, self.layer_path("edit", segment, layer, ".png"))
        save_image(edited.mask, self.layer_path("edit", segment, layer, "_mask.png"))

    def edited(self, segment: int) -> tuple[EditedLayer, ...]:
        """The edited layers of a segment, as the files have them."""
        return self._edited.get(segment, self._read_edited)

    def _read_edited(self, segment: int) -> tuple[EditedLayer, ...]:
        return tuple(
            EditedLayer(
                original=load_image(self.layer_path("canonical", segment, layer, ".png")),
                edited=load_image(self.layer_path("edit", segment, layer, ".png")),
                mask=load_mask(self.layer_path("edit", segment, layer, "_mask.png")),
            )
            for layer in range(self.layers)
        )

    def layer_path(self, kind: str, segment: int, layer: int, ending: str) -> Path:
        """A picture of one layer of a segment."""
        return self.folder.segment_path(kind, segment, f"_layer_{layer}{ending}")

    def fit_records(self) -> tuple[dict[str, Any], ...]:
        """What is known of each segment's fit.

        Raises:
            SessionError: if the clip is not fitted.
        """
        if self.folder.mark_of("fit") is None:
            raise SessionError(
                f"the clip of {self.folder.root} is not fitted to the end: run `maskedit video fit` with the same --run"
            )
        paths = [self.folder.segment_path("fit", number, ".json") for number in range(len(self.rows))]
        return tuple(read_json(path, hint="run `maskedit video fit` again") for path in paths)

    def _layer_names(self) -> tuple[str, ...]:
        return tuple(self.folder.value("layers"))


class StoredSegments(Sequence[Segment]):
    """Segments that are read when they are asked for; only the last few stay in memory."""

    def __init__(self, files: RunFiles) -> None:
        """Nothing is read yet."""
        self._files, self._kept = files, _Kept[Segment]()

    def __len__(self) -> int:
        return len(self._files.rows)

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Segment]: ...
    def __getitem__(self, index: int | slice) -> Segment | Sequence[Segment]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self._kept.get(range(len(self))[index], self._files.segment)


class _Kept(Generic[T]):
    """The last few of something that is costly to read."""

    def __init__(self, count: int = _AT_HAND) -> None:
        self._count, self._values = count, OrderedDict[int, T]()

    def get(self, number: int, read: Callable[[int], T]) -> T:
        if number not in self._values:
            # Room is made first, so that one more than are kept never stands in memory.
            while len(self._values) >= self._count:
                self._values.popitem(last=False)
            self._values[number] = read(number)
        self._values.move_to_end(number)
        return self._values[number]


def _all(rows: slice) -> range:
    if rows.stop <= rows.start:
        raise InputError(f"expected frames, got none from {rows.start} to {rows.stop}")
    return range(rows.start, rows.stop)
