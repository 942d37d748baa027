"""Pictures with an instruction and the edited picture: InstructPix2Pix, MagicBrush and SmartEdit's synthetic pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...editors import InputError, Sample, SampleSource
from .layout import find_file, laid_out, read_annotations
from .painting import choose
from .pictures import read_pair
from .tables import TablePairs, find_tables

_SEEDS = 'a list of [NAME, [SEED, ...]] as in seeds.json of "clip-filtered-dataset"'
_TURNS = "records with input, output and instruction, as in MagicBrush's edit_turns.json or edit_sessions.json"
_SYNTHETIC = '{"0000": {"origin_img_path": ..., "target_img_path": ..., "instruction": [...]}, ...}'


@dataclass(frozen=True, kw_only=True)
class _Pair:
    before: Path
    after: Path
    texts: tuple[str, ...]


def open_instructpix2pix(root: Path) -> SampleSource:
    """InstructPix2Pix's CLIP-filtered set (arXiv 2211.09800).

    Args:
        root: the folder of `seeds.json` and `NAME/prompt.json`, `NAME/SEED_0.jpg` (before), `NAME/SEED_1.jpg` (after),
            or of the tables on the hub.

    Raises:
        InputError: if it is neither.
    """
    tables = find_tables(root)
    if tables:
        return TablePairs(tables, before="original_image", after="edited_image", text="edit_prompt")
    return InstructPix2Pix(root)


class InstructPix2Pix:
    """The published folders; every seed of a prompt is a sample."""

    def __init__(self, root: Path) -> None:
        """Index by `seeds.json`.

        Raises:
            InputError: if it is missing or of another form.
        """
        path = find_file(root, ("seeds.json",), "list of pairs")
        with laid_out(path, _SEEDS):
            self._pairs = tuple((str(name), str(seed)) for name, seeds in read_annotations(path) for seed in seeds)
        self._root = root
        if not self._pairs:
            raise InputError(f"{path} lists no pairs: expected {_SEEDS}")

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self._pairs)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One pair.

        Raises:
            InputError: if one of its files is missing or broken.
        """
        name, seed = self._pairs[index]
        folder = self._root / name
        prompt = folder / "prompt.json"
        with laid_out(prompt, '{"edit": "..."}'):
            text = _text(read_annotations(prompt)["edit"])
        image, target = read_pair(folder / f"{seed}_0.jpg", folder / f"{seed}_1.jpg")
        return Sample(text=text, image=image, target=target)


def open_magicbrush(root: Path) -> SampleSource:
    """MagicBrush's training set (arXiv 2306.10012).

    Args:
        root: the folder with `train/` (or the folder `train` itself): `edit_turns.json` or `edit_sessions.json`, and
            `images/ID/ID-input.png`, `ID-output1.png`, ...; or the folder of the tables on the hub.

    Raises:
        InputError: if it is neither.
    """
    tables = find_tables(root)
    if tables:
        return TablePairs(tables, before="source_img", after="target_img", text="instruction")
    names = [f"{above}{name}" for above in ("train/", "") for name in ("edit_turns.json", "edit_sessions.json")]
    path = find_file(root, names, "list of edits")
    with laid_out(path, _TURNS):
        content = read_annotations(path)
        turns = content if isinstance(content, list) else [turn for turns in content.values() for turn in turns]
        return FilePairs([_magicbrush_pair(path.parent / "images", turn) for turn in turns], path)


def _magicbrush_pair(images: Path, turn: Any) -> _Pair:
    # The photo's number leads the name of each file made from it, and names their folder.
    folder = images / str(turn["input"]).split("-", maxsplit=1)[0]
    return _Pair(before=folder / turn["input"], after=folder / turn["output"], texts=(_text(turn["instruction"]),))


def open_synthetic(root: Path) -> SampleSource:
    """SmartEdit's synthetic reasoning edits, 476 pairs (arXiv 2312.06739).

    Args:
        root: the folder of `SyntheticData_info_new.json` and the pictures it names, or that file. It names them from
            where its authors worked; of such a path, the longest end that is there counts.

    Raises:
        InputError: if the list is missing or of another form.
    """
    path = root if root.is_file() else find_file(root, ("SyntheticData_info_new.json",), "list of synthetic pairs")
    with laid_out(path, _SYNTHETIC):
        records = read_annotations(path).values()
        return FilePairs([_synthetic_pair(path.parent, record) for record in records], path)


def _synthetic_pair(root: Path, record: Any) -> _Pair:
    said = record["instruction"]
    texts = tuple(_text(each) for each in ([said] if isinstance(said, str) else said))
    if not texts:
        raise ValueError("a pair without an instruction")
    before, after = (_relocate(root, str(record[key])) for key in ("origin_img_path", "target_img_path"))
    return _Pair(before=before, after=after, texts=texts)


def _relocate(root: Path, written: str) -> Path:
    parts = PurePosixPath(written.replace("\\", "/")).parts
    places = [root.joinpath(*parts[start:]) for start in range(len(parts)) if parts[start] not in ("/", ".", "..")]
    return next((place for place in places if place.is_file()), root / written)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"an instruction must be a text, got {value!r}")
    return " ".join(value.split())


class FilePairs:
    """Pairs of files, each with one instruction or several to draw from."""

    def __init__(self, pairs: Sequence[_Pair], listing: Path) -> None:
        """Hold some pairs.

        Args:
            pairs: at least one.
            listing: the file that lists them, for the message.

        Raises:
            InputError: if there are none.
        """
        if not pairs:
            raise InputError(f"{listing} lists no pairs: download it again")
        self._pairs = tuple(pairs)

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self._pairs)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One pair.

        Raises:
            InputError: if a picture is missing or broken, or the two show different frames.
        """
        pair = self._pairs[index]
        image, target = read_pair(pair.before, pair.after)
        return Sample(text=choose(pair.texts, rng), image=image, target=target)
