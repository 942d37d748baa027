"""ReasonSeg as editing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.reasonseg import ReasonSeg
from maskedit.editors import InputError


def test_questions_phrases_and_names(sets: Path) -> None:
    source = ReasonSeg(sets / "reasonseg")
    assert len(source) == 3 == len(ReasonSeg(sets / "reasonseg" / "ReasonSeg" / "train"))
    said = {source.read(0, np.random.default_rng(seed)).text.partition("? ")[0] for seed in range(20)}
    assert said == {"What rolls", "Which part turns"}
    question, phrase, named = (source.read(index, np.random.default_rng(0)).text for index in range(3))
    assert "what this asks for" in question
    assert "the thing that rolls" in phrase and "The thing that rolls." not in phrase
    assert named.startswith("What rolls? ") and "wheel" in named


def test_what_annotators_left_open_stays(sets: Path, rng: np.random.Generator) -> None:
    sample = ReasonSeg(sets / "reasonseg").read(0, rng)
    mask = torch.ones(12, 16, dtype=torch.bool)
    mask[2:6, 2:6] = False
    assert torch.equal((sample.target != sample.image).any(0), mask)


def test_annotations_may_be_in_the_encoding_of_windows(own_sets: Path, rng: np.random.Generator) -> None:
    path = own_sets / "reasonseg" / "ReasonSeg" / "train" / "b.json"
    record = json.loads(path.read_text())
    path.write_bytes(json.dumps({**record, "text": "the café"}, ensure_ascii=False).encode("cp1252"))
    assert "the café" in ReasonSeg(own_sets / "reasonseg").read(1, rng).text


def test_damage_is_told(own_sets: Path, rng: np.random.Generator) -> None:
    folder = own_sets / "reasonseg" / "ReasonSeg" / "train"
    source = ReasonSeg(folder)
    (folder / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot read .*a\.json"):
        source.read(0, rng)
    (folder / "a.json").write_text('{"text": "it"}')
    with pytest.raises(InputError, match=r"a\.json is not of the form its set has \(no 'shapes'\)"):
        source.read(0, rng)
    (folder / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"found none at .*b\.jpg"):
        source.read(1, rng)
    with pytest.raises(InputError, match="no annotations of ReasonSeg"):
        ReasonSeg(own_sets / "coco")
