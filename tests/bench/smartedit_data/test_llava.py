"""Talks about photos."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.llava import Llava
from maskedit.editors import InputError, load_image


def test_a_question_comes_with_its_answer(sets: Path) -> None:
    source = Llava(sets / "llava")
    assert len(source) == 2 == len(Llava(sets / "llava" / "llava_instruct_150k.json"))
    samples = [source.read(0, np.random.default_rng(seed)) for seed in range(20)]
    assert {(each.text, each.answer) for each in samples} == {("What is it?", "A bus."), ("Which colour?", "Red.")}
    assert torch.equal(samples[0].image, load_image(sets / "coco" / "train2017" / "000000000001.jpg")[0])
    last = source.read(1, np.random.default_rng(0))
    assert (last.text, last.answer, last.is_edit) == ("Describe it.", "A street.", False)


@pytest.mark.parametrize("speakers", [["human"], ["human", "human"], [], ["gpt"], ["human", "gpt", "gpt"]])
def test_talks_out_of_turn_are_refused(own_sets: Path, speakers: list[str]) -> None:
    path = own_sets / "llava" / "llava_instruct_150k.json"
    talk = [{"from": speaker, "value": "so"} for speaker in speakers]
    path.write_text(json.dumps([{"image": "1.jpg", "conversations": talk}]))
    with pytest.raises(InputError, match=r"llava_instruct_150k\.json is not of the form .*the talk about 1\.jpg"):
        Llava(own_sets / "llava")


def test_a_talk_may_start_with_the_machine(own_sets: Path, rng: np.random.Generator) -> None:
    path = own_sets / "llava" / "llava_instruct_150k.json"
    talk = [{"from": speaker, "value": f"{speaker} {n}"} for n, speaker in enumerate(("gpt", "human", "gpt"))]
    path.write_text(json.dumps([{"image": "000000000001.jpg", "conversations": talk}]))
    sample = Llava(own_sets / "llava").read(0, rng)
    assert (sample.text, sample.answer) == ("human 1", "gpt 2")


def test_talks_are_held_small(own_sets: Path) -> None:
    path = own_sets / "llava" / "llava_instruct_150k.json"
    talk = [{"from": speaker, "value": "The bus stops at the corner. " * 20} for speaker in ("human", "gpt") * 2]
    path.write_text(json.dumps([{"image": f"{n}.jpg", "conversations": talk} for n in range(50)]))
    assert len(pickle.dumps(Llava(own_sets / "llava"))) < path.stat().st_size / 5


def test_damage_is_told(own_sets: Path, rng: np.random.Generator) -> None:
    path = own_sets / "llava" / "llava_instruct_150k.json"
    source = Llava(own_sets / "llava")
    (own_sets / "coco" / "train2017" / "000000000002.jpg").unlink()
    with pytest.raises(InputError, match=r"found none at .*0002\.jpg"):
        source.read(1, rng)
    path.write_text("[]")
    with pytest.raises(InputError, match="holds no talks"):
        Llava(own_sets / "llava")
    path.write_text('[{"id": "1", "conversations": []}]')
    with pytest.raises(InputError, match=r"\(no 'image'\)"):
        Llava(own_sets / "llava")
    path.unlink()
    with pytest.raises(InputError, match="no list of talks"):
        Llava(own_sets / "llava")
