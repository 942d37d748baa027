"""LLaVA-Instruct-150k (arXiv 2304.08485): talks about photos of COCO's train2017, which teach nothing but language."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...editors import InputError, Sample
from .layout import COCO_2017, find_file, find_folder, laid_out, read_annotations
from .pictures import read_picture

_FORM = '[{"image": ..., "conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...]}, ...]'
_MARK = "<image>"


class Llava:
    """One sample a talk, of which one question with its answer is drawn at each visit.

    Differs from the paper: there a talk is learned from as a whole; a sample here is one question.
    """

    def __init__(self, root: Path) -> None:
        """Index the talks.

        Args:
            root: the folder of `llava_instruct_150k.json`, or that file; photos in `train2017`, `coco/train2017` and
                the like, there or beside it.

        Raises:
            InputError: if talks or photos are missing, or a talk is of another form.
        """
        path = root if root.is_file() else find_file(root, ("llava_instruct_150k.json",), "list of talks")
        with laid_out(path, _FORM):
            self._talks = tuple(_pack(record) for record in read_annotations(path))
        if not self._talks:
            raise InputError(f"{path} holds no talks: expected {_FORM}")
        self._photos = find_folder(path.parent, COCO_2017, "photos of COCO's train2017", holding="*.jpg")

    def __len__(self) -> int:
        """How many talks there are."""
        return len(self._talks)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One question with its photo and answer.

        Raises:
            InputError: if the photo is missing or broken.
        """
        photo, turns = json.loads(zlib.decompress(self._talks[index]))
        question, answer = turns[int(rng.integers(len(turns)))]
        return Sample(text=question, image=read_picture(self._photos / photo), answer=answer)


def _pack(record: Any) -> bytes:
    """The photo and the turns of a talk; packed, since all talks as text take some hundred megabytes a process."""
    return zlib.compress(json.dumps([str(record["image"]), _turns(record)]).encode())


def _turns(record: Any) -> tuple[tuple[str, str], ...]:
    said = [(each["from"], str(each["value"]).replace(_MARK, "").strip()) for each in record["conversations"]]
    # A talk that starts with the machine lacks the question to its first words.
    said = said[1:] if said and said[0][0] == "gpt" else said
    speakers = [speaker for speaker, _ in said]
    if not said or speakers != ["human", "gpt"] * (len(said) // 2):
        raise ValueError(f"the talk about {record['image']} goes {', '.join(speakers) or 'nowhere'}")
    return tuple((question, answer) for (_, question), (_, answer) in zip(said[::2], said[1::2], strict=True))
