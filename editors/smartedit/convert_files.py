"""Weights of published models, read where they lie and written in pieces: one piece is in memory at a time."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..core.errors import ModelError
from ..core.files import read_json, write_json, write_tensors

HINT = "choose another --output"
_PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
_PIECE = 2_000_000_000
"""Bytes of a written file, at most."""


class WeightFiles:
    """Tensors of one model by name, whichever of its files hold them; they are mapped, not read, until asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Open some files.

        Args:
            files: safetensors, or what torch saved; of the latter only tensors are read, never code.

        Raises:
            ModelError: if one cannot be read, or holds something else than tensors by name.
        """
        self._readers: dict[str, Callable[[], Tensor]] = {}
        self._rows: dict[str, Callable[[int], Tensor]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            self._open(path)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "WeightFiles":
        """Tensors that are in memory already."""
        weights = cls(())
        weights._take(tensors)
        return weights

    def _open(self, path: Path) -> None:
        try:
            if path.suffix in _PICKLES:
                self._open_pickle(path)
                return
            file = safe_open(path, framework="pt")
            for name in file.keys():  # noqa: SIM118 (this is no dictionary)
                self._readers[name] = lambda file=file, name=name: file.get_tensor(name)
                part = file.get_slice(name)
                self._shapes[name] = tuple(part.get_shape())
                self._rows[name] = lambda row, part=part: part[row : row + 1]
        except UnpicklingError as error:
            raise ModelError(f"{path} holds more than tensors, and that may run code: take the weights") from error
        except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
            raise ModelError(f"cannot read the weights {path} ({_first_line(error)}): fetch the file again") from error

    def _open_pickle(self, path: Path) -> None:
        stored: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(stored, dict) or not all(isinstance(each, Tensor) for each in stored.values()):
            raise ValueError("it does not hold tensors by name")
        self._take(stored)

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._readers[name] = lambda tensor=tensor: tensor
            self._rows[name] = lambda row, tensor=tensor: tensor[row : row + 1]
            self._shapes[name] = tuple(tensor.shape)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name."""
        return self._shapes

    def read(self, name: str) -> Tensor:
        """One tensor."""
        return self._readers[name]()

    def sample(self, name: str, count: int) -> list[float]:
        """A few numbers of a tensor, from evenly spread places; of its file only their rows are read."""
        shape = self._shapes[name]
        places = torch.linspace(0, prod(shape) - 1, min(count, prod(shape)), dtype=torch.float64).long().tolist()
        row = prod(shape[1:])
        return [float(self._rows[name](place // row).flatten()[place % row]) for place in places]


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Files with the weights of a model in a folder: safetensors where there are any, else what torch saved.

    Args:
        folder: of a LLaVA or Vicuna; a projector that lies beside them (`mm_projector.bin`) is one of them.

    Raises:
        ModelError: if there are none, one that the folder's index names is missing, or the index is damaged.
    """
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).is_file():
            found = tuple(folder / name for name in _read_index(folder / index))
            break
    else:
        found = tuple(sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin")))
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        what = str(missing[0]) if missing else f"model*.safetensors or pytorch_model*.bin in {folder}"
        raise ModelError(f"expected the weights {what}, found none: fetch or merge the whole model")
    projector = folder / "mm_projector.bin"
    return (*found, projector) if projector.is_file() else found


def _read_index(path: Path) -> list[str]:
    """Names of the files that an index tells of, each beside it."""
    hint = "fetch or merge the whole model"
    stored = read_json(path, hint=hint, error=ModelError)
    places = stored.get("weight_map") if isinstance(stored, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelError(f"cannot understand {path} (it names no weights): {hint}")
    for name in places.values():
        # Other folders are not part of the model, whatever the index says.
        if not isinstance(name, str) or name in {"", ".", ".."} or "/" in name or "\\" in name:
            raise ModelError(f"cannot understand {path} (expected names of files beside it, got {name!r}): {hint}")
    return sorted(set(places.values()))


def write_pieces(
    folder: Path,
    tensors: Mapping[str, Callable[[], Tensor]],
    sizes: Mapping[str, int],
    *,
    stem: str = "model",
    most: int = _PIECE,
) -> tuple[Path, ...]:
    """Write tensors as safetensors in as many files as they need, with an index where that is more than one.

    Args:
        folder: where; it is made.
        tensors: each is made when its file is written, and is not kept.
        sizes: their sizes in bytes, at most, by name.
        stem: what the files are called.
        most: bytes of one file, at most; a larger tensor has a file to itself.

    Raises:
        ModelError: if the disk refuses.
    """
    pieces: list[list[str]] = [[]]
    for name in tensors:
        if pieces[-1] and sum(sizes[each] for each in pieces[-1]) + sizes[name] > most:
            pieces.append([])
        pieces[-1].append(name)
    count, places, total = len(pieces), dict[str, str](), 0
    for number, names in enumerate(pieces, 1):
        file = f"{stem}.safetensors" if count == 1 else f"{stem}-{number:05d}-of-{count:05d}.safetensors"
        content = {name: tensors[name]() for name in names}
        write_tensors(folder / file, content, hint=HINT, metadata={"format": "pt"}, error=ModelError)
        places |= dict.fromkeys(names, file)
        total += sum(each.nbytes for each in content.values())
    if count > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        write_json(folder / f"{stem}.safetensors.index.json", index, hint=HINT, error=ModelError)
    return tuple(folder / file for file in dict.fromkeys(places.values()))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
