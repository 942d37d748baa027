"""A learned instruction, a brush: what before/after pairs taught, in one safetensors file of a few megabytes.

InstructBrush (arXiv 2403.18660) learns keys and values of the first tokens of every cross-attention layer, for each
part of the noise range; Visii (arXiv 2307.14331) learns the hidden states of the text. Nothing is unpickled, and what
made a brush is part of its file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..core.checkpoint import SamplerName
from ..core.errors import InputError, ModelError
from ..core.files import one_line_on_failure, write_atomic
from .brush_options import BrushKind, Learned

FORMAT = 1
EMBEDDING = "embedding"
"""Name of the tensor of a brush that learned hidden states."""
_HEADER = "maskedit_brush"

Rows = Float[Tensor, "_ _ _"]
"""Learned rows: segments, rows, width, which is another one for each layer."""


@dataclass(frozen=True, kw_only=True)
class BrushHeader:
    """What made a brush, and what it fits."""

    kind: BrushKind
    learn: Learned
    name: str
    """What it is called in a request."""
    initial_text: str
    """The text the learning started from; its other rows stand around the learned ones."""
    rows: int
    """Learned tokens."""
    first_row: int = 1
    """Where they begin; 1 = after the start token."""
    segments: int
    """Parts of the noise range with tensors of their own."""
    widths: Mapping[str, int]
    """Width of each cross-attention layer by its name, or of the hidden states."""
    model: str
    """The checkpoint it was learned on."""
    fingerprint: str
    """Tells that checkpoint from others of its name."""
    sampler: SamplerName
    sampling_steps: int
    guidance_scale: float
    image_guidance_scale: float
    learned_steps: int = 0
    """Gradient steps of each segment."""
    pairs: int = 0
    """Pairs it was learned from."""
    losses: tuple[float, ...] = ()
    """Mean loss of each segment over the last tenth of its steps."""
    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """How it was learned."""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Packages that made it."""


class Brush:
    """A header and its tensors, in float32."""

    def __init__(self, header: BrushHeader, tensors: Mapping[str, Rows]) -> None:
        """Hold the learned rows by name: `SITE.key` and `SITE.value` of every layer, or `embedding`.

        Raises:
            ModelError: if they are not those the header speaks of.
        """
        self.header, self.tensors = header, dict(tensors)
        wanted = {name: (header.segments, header.rows, width) for name, width in tensor_widths(header).items()}
        got = {name: tuple(value.shape) for name, value in self.tensors.items()}
        for name in sorted(wanted.keys() | got.keys()):
            if wanted.get(name) != got.get(name):
                raise ModelError(
                    f"expected {wanted.get(name, 'nothing')} as {name} of a brush, got {got.get(name, 'nothing')}: "
                    "the file is damaged, learn it again"
                )

    def answers_to(self, text: str) -> bool:
        """Whether a text of a request means the brush itself: its name or the text it began from."""
        own = {_bare(self.header.name), _bare(self.header.initial_text)} - {""}
        return _bare(text) in own

    def save(self, path: Path) -> Path:
        """Write it, one tensor for each segment, layer and side, in one move.

        Raises:
            InputError: if the disk refuses.
        """
        single = {f"{s}.{name}": rows[s].contiguous().cpu() for name, rows in self.tensors.items() for s in self._range}
        data = save(single, metadata={_HEADER: json.dumps({"format": FORMAT, **asdict(self.header)})})
        write_atomic(path, lambda file: file.write(data), hint="choose another --out", error=InputError)
        return path

    @property
    def _range(self) -> range:
        return range(self.header.segments)


def tensor_widths(header: BrushHeader) -> dict[str, int]:
    """Width of each tensor by its name."""
    if header.learn == "embedding":
        return dict(header.widths)
    return {f"{site}.{side}": width for site, width in header.widths.items() for side in ("key", "value")}


def load_brush(path: Path) -> Brush:
    """Read a brush.

    Raises:
        ModelError: if the file is none, is damaged, has numbers that are none, or was written by a newer version.
    """
    import torch

    header = read_header(path)
    with safe_open(path, framework="pt") as file:
        names = tensor_widths(header)
        lacking = [f"{s}.{n}" for n in names for s in range(header.segments) if f"{s}.{n}" not in set(file.keys())]
        if lacking:
            raise ModelError(f"{path} lacks {lacking[0]}: the file is damaged, learn it again")
        tensors = {
            name: torch.stack([file.get_tensor(f"{s}.{name}") for s in range(header.segments)]).float()
            for name in names
        }
    for name, rows in tensors.items():
        if not bool(rows.isfinite().all()):
            raise ModelError(f"{path} has numbers that are not finite in {name}: the file is damaged, learn it again")
    return Brush(header, tensors)


def read_header(path: Path) -> BrushHeader:
    """What made a brush, without its tensors.

    Raises:
        ModelError: see `load_brush`.
    """
    hint = "give a file that `maskedit brush learn` wrote"
    try:
        with one_line_on_failure(path, hint=hint, error=ModelError), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, FileNotFoundError, ModelError) as error:
        why = "" if path.is_file() else ": it is a folder" if path.is_dir() else ": there is no such file"
        raise ModelError(f"cannot read a brush from {path}{why}, {hint}") from error
    try:
        stored = json.loads(metadata[_HEADER])
        if stored.pop("format") != FORMAT:
            raise ModelError(f"{path} was written by another version of maskedit: {hint}")
        if stored["kind"] not in get_args(BrushKind) or stored["learn"] not in get_args(Learned):
            raise ModelError(f"{path} is a brush of an unknown kind: {hint}")
        known = {f.name for f in fields(BrushHeader)}
        values: dict[str, Any] = {key: value for key, value in stored.items() if key in known}
        values["losses"] = tuple(values["losses"])
        return BrushHeader(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is no brush: {hint}") from error


def fingerprint_brush(path: Path | None) -> str:
    """What tells a brush from another one in the same file; empty where there is none.

    Raises:
        ModelError: if it cannot be read.
    """
    if path is None:
        return ""
    try:
        return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read the brush {path} ({error.strerror}): correct the path") from error


def _bare(text: str) -> str:
    return " ".join(text.split()).casefold()
