"""Lifted masks on disk, in the folder `lifted` of an edit session.

    found-KEY/00003-0.png      what was found in the photo of view 3 for instruction 0; black = nothing
    masks-KEY/00003-0.png      the lifted mask of that view
    masks-KEY/region.safetensors, lifted.json
                               votes about the union, and what was lifted; the latter is written last

A key stands for everything that decides: the planned instructions and, for lifted masks, the regions that the user
gave. So a changed instruction is lifted anew, a region without asking the editor again, and one that is taken back is
read again. What a kill leaves half done is done again, to the same result; where votes are counted on a GPU, which adds
them up in no fixed order, the same but for last bits.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..editors import SessionError
from .lift_regions import UserRegion
from .slot import Settings
from .storage import from_bytes, read_mask, to_bytes, write_image, write_json, write_tensors

FOLDER = "lifted"


@dataclass(frozen=True, kw_only=True)
class LiftKey:
    """Names of what was found and of what was lifted from it."""

    found: str
    lifted: str

    @classmethod
    def of(cls, settings: Settings, regions: Sequence[UserRegion]) -> "LiftKey":
        """The key of planned settings and the regions in force."""
        wanted = {
            "editor": settings.editor,
            "instructions": [[each.text, each.keyword, each.phrases] for each in settings.instructions],
            "captions": [asdict(each) for each in settings.captions],
        }
        given = [[type(each).__name__, asdict(each)] for each in regions]
        return cls(found=_digest(wanted), lifted=_digest([wanted, given]))


class LiftStore:
    """Reads and writes lifted masks.

    Args:
        root: the session folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def found(self, key: LiftKey, view: int, count: int) -> tuple[Float[Tensor, "height width"], ...] | None:
        """What was found in a photo for each of some instructions; None = nobody has looked yet."""
        paths = [self.root / self._found(key, view, number) for number in range(count)]
        if not all(path.is_file() for path in paths):
            return None
        return tuple(from_bytes(read_mask(path)) for path in paths)

    def save_found(self, key: LiftKey, view: int, masks: Sequence[Float[Tensor, "height width"]]) -> None:
        """Keep what was found in a photo."""
        for number, mask in enumerate(masks):
            write_image(self.root / self._found(key, view, number), to_bytes(mask))

    def files(self, key: LiftKey, view: int, count: int) -> tuple[str, ...]:
        """Where the lifted masks of a view are, relative to the session."""
        return tuple(f"{FOLDER}/masks-{key.lifted}/{view:05d}-{number}.png" for number in range(count))

    def is_lifted(self, key: LiftKey) -> bool:
        """Whether the lifted masks of all views are there."""
        return (self.root / self._place(key, "lifted.json")).is_file()

    def save(
        self,
        key: LiftKey,
        masks: Sequence[Sequence[Float[Tensor, "height width"]]],
        region: Mapping[str, Tensor],
        notes: Mapping[str, Any],
    ) -> None:
        """Keep lifted masks.

        Args:
            key: what they are of.
            masks: of each view, for each instruction.
            region: state of the votes about the union.
            notes: what to tell people about them.
        """
        for view, each in enumerate(masks):
            for mask, name in zip(each, self.files(key, view, len(each)), strict=True):
                write_image(self.root / name, to_bytes(mask))
        write_tensors(self.root / self._place(key, "region.safetensors"), region)
        write_json(self.root / self._place(key, "lifted.json"), dict(notes))

    def region(self, key: LiftKey) -> dict[str, Tensor]:
        """State of the votes about the union.

        Raises:
            SessionError: if it is damaged.
        """
        path = self.root / self._place(key, "region.safetensors")
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise SessionError(f"cannot read {path} ({error}): remove its folder, and it is lifted again") from error

    def _found(self, key: LiftKey, view: int, number: int) -> str:
        return f"{FOLDER}/found-{key.found}/{view:05d}-{number}.png"

    def _place(self, key: LiftKey, name: str) -> str:
        return f"{FOLDER}/masks-{key.lifted}/{name}"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
