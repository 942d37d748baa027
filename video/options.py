"""Everything that can be set about the edit of a clip but the edit itself, and how it is kept in a file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..editors import SessionError
from .composite import Transfer
from .fit import FitConfig
from .flow import FlowConfig
from .frames import MIN_SIZE
from .layers import LayersConfig
from .segments import SegmentConfig
from .writing import WriteConfig

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FramesConfig:
    """Which frames are taken, and how large they are worked on."""

    size: int | None = 512
    """Longest side of the working frames in pixels, 16 or more; smaller frames stay as they are. None = their own."""
    start: float = 0.0
    """Seconds of the clip to leave out before the first frame, 0 or more."""
    frames: int | None = None
    """Frames to take at most, 2 or more; None = all."""
    stride: int = 1
    """Every how manyeth frame is taken, 1 or more."""
    fps: float | None = None
    """Frames a second of a folder of pictures, above 0; None = as the folder says, or 12."""

    def __post_init__(self) -> None:
        if self.size is not None and self.size < MIN_SIZE:
            raise ValueError(f"size must be at least {MIN_SIZE}, got {self.size}")
        if self.start < 0:
            raise ValueError(f"start must be at least 0, got {self.start:g}")
        if self.frames is not None and self.frames < 2:
            raise ValueError(f"frames must be at least 2, got {self.frames}")
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, got {self.stride}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps must be above 0, got {self.fps:g}")


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """How the edited clip is made."""

    transfer: Transfer = "replace"
    """`replace`: inside the mask frames show the edited canonical image; `residual`: what the edit changed in it is
    added to the frames, which keeps detail that the canonical image has lost."""
    size: Literal["source", "working"] = "source"
    """Frames as large as those of the clip, or as they were worked on."""
    side_by_side: bool = False
    """Also write a clip with source and result beside each other."""
    file: WriteConfig = field(default_factory=WriteConfig)
    """Quality and sound."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How a clip is fitted and rendered."""

    frames: FramesConfig = field(default_factory=FramesConfig)
    """Which frames are taken."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    """How the motion is found."""
    layers: LayersConfig = field(default_factory=LayersConfig)
    """What is fitted by itself."""
    segments: SegmentConfig = field(default_factory=SegmentConfig)
    """How a long clip is cut."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How the clip is fitted."""
    render: RenderConfig = field(default_factory=RenderConfig)
    """How the edited clip is made."""
    minimum_psnr: float = 24.0
    """Mean fidelity of the unedited reconstruction in dB below which no edit is begun, 0 or more."""
    accept_quality: bool = False
    """Edit whatever the fidelity."""

    def __post_init__(self) -> None:
        if self.minimum_psnr < 0:
            raise ValueError(f"minimum_psnr must be at least 0, got {self.minimum_psnr:g}")


def options_to_record(options: object) -> dict[str, Any]:
    """Options as plain values that JSON can hold."""
    return _plain(asdict(options))  # type: ignore[call-overload]


def record_to_options(kind: type[T], record: Mapping[str, Any]) -> T:
    """The options of `options_to_record`; what the record does not name has its default.

    Args:
        kind: their class.
        record: plain values.

    Raises:
        SessionError: if a value is none of such options.
    """
    hints = get_type_hints(kind)
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{name: _restore(hints[name], value) for name, value in record.items() if name in known})
    except (TypeError, ValueError, AttributeError) as error:
        raise SessionError(f"cannot read stored settings ({error}): begin the run anew") from error


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case Path():
            return str(value)
        case _:
            return value


def _restore(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) in (Union, UnionType):
        (hint, *_) = [each for each in get_args(hint) if each is not type(None)]
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ValueError(f"expected options of {hint.__name__}, got {value!r}")
        return record_to_options(hint, value)
    if get_origin(hint) is tuple:
        return tuple(_restore(get_args(hint)[0], each) for each in value)
    if hint is float:
        return float(value)
    return Path(value) if hint is Path else value
