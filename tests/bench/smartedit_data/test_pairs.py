"""InstructPix2Pix, MagicBrush and the synthetic pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.pairs import open_instructpix2pix, open_magicbrush, open_synthetic
from maskedit.editors import InputError, load_image


def test_every_seed_is_a_pair(sets: Path, rng: np.random.Generator) -> None:
    source = open_instructpix2pix(sets / "instructpix2pix")
    assert len(source) == 3
    sample = source.read(1, rng)
    assert sample.text == "change 0000001"
    for side, found in enumerate((sample.image, sample.target)):
        assert torch.equal(found, load_image(sets / "instructpix2pix" / "0000001" / f"12_{side}.jpg")[0])
    assert source.read(2, rng).text == "change 0000002"


def test_turns_and_sessions_are_the_same_edits(own_sets: Path, rng: np.random.Generator) -> None:
    turns = open_magicbrush(own_sets / "magicbrush")
    (own_sets / "magicbrush" / "train" / "edit_turns.json").unlink()
    sessions = open_magicbrush(own_sets / "magicbrush" / "train")
    assert len(turns) == len(sessions) == 3
    for index, text in enumerate(("turn 1", "turn 2", "a hat")):
        one, other = (source.read(index, rng) for source in (turns, sessions))
        assert one.text == other.text == text
        assert torch.equal(one.image, other.image) and torch.equal(one.target, other.target)


def test_a_second_turn_starts_from_the_first_edit(sets: Path, rng: np.random.Generator) -> None:
    first, second = (open_magicbrush(sets / "magicbrush").read(index, rng) for index in (0, 1))
    folder = sets / "magicbrush" / "train" / "images" / "139306"
    assert torch.equal(first.image, load_image(folder / "139306-input.png")[0])
    assert torch.equal(second.image, load_image(folder / "139306-output1.png")[0])
    assert first.target.shape == (3, 10, 10) and second.target.shape == (3, 20, 20)


def test_synthetic_pairs_are_found_from_where_they_are_now(sets: Path) -> None:
    source = open_synthetic(sets / "synthetic")
    assert len(source) == 2 == len(open_synthetic(sets / "synthetic" / "SyntheticData_info_new.json"))
    said = {source.read(1, np.random.default_rng(seed)).text for seed in range(20)}
    assert said == {"edit 1", "change 1"}
    folder = sets / "synthetic" / "understanding"
    sample = source.read(0, np.random.default_rng(0))
    assert torch.equal(sample.image, load_image(folder / "0_origin.png")[0])
    assert torch.equal(sample.target, load_image(folder / "0_target.png")[0])


def test_missing_pictures_are_named(own_sets: Path, rng: np.random.Generator) -> None:
    (own_sets / "instructpix2pix" / "0000002" / "21_1.jpg").unlink()
    with pytest.raises(InputError, match=r"found none at .*21_1\.jpg"):
        open_instructpix2pix(own_sets / "instructpix2pix").read(2, rng)
    (own_sets / "magicbrush" / "train" / "images" / "7" / "7-input.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"cannot read .*7-input\.png as a picture"):
        open_magicbrush(own_sets / "magicbrush").read(2, rng)
    (own_sets / "synthetic" / "understanding" / "1_target.png").unlink()
    with pytest.raises(InputError, match=r"found none at .*1_target\.png"):
        open_synthetic(own_sets / "synthetic").read(1, rng)


@pytest.mark.parametrize("content", ['[["0000001"]]', "{}", "[]", '[["0000001", [', "[1]"])
def test_other_seeds_are_refused(own_sets: Path, content: str) -> None:
    (own_sets / "instructpix2pix" / "seeds.json").write_text(content)
    with pytest.raises(InputError, match=r"seeds\.json"):
        open_instructpix2pix(own_sets / "instructpix2pix")


@pytest.mark.parametrize("content", ["[]", '[{"input": "1-input.png", "output": "o.png"}]', "[1]", "{", '{"1": 2}'])
def test_other_turns_are_refused(own_sets: Path, content: str) -> None:
    (own_sets / "magicbrush" / "train" / "edit_turns.json").write_text(content)
    with pytest.raises(InputError, match=r"edit_turns\.json"):
        open_magicbrush(own_sets / "magicbrush")


@pytest.mark.parametrize("said", [[], "", [" "], [3], None])
def test_pairs_without_words_are_refused(own_sets: Path, said: object) -> None:
    path = own_sets / "synthetic" / "SyntheticData_info_new.json"
    records = json.loads(path.read_text())
    records["0001"]["instruction"] = said
    path.write_text(json.dumps(records))
    with pytest.raises(InputError, match=r"SyntheticData_info_new\.json is not of the form"):
        open_synthetic(own_sets / "synthetic")


def test_prompts_without_an_edit_are_refused(own_sets: Path, rng: np.random.Generator) -> None:
    (own_sets / "instructpix2pix" / "0000001" / "prompt.json").write_text('{"input": "a"}')
    with pytest.raises(InputError, match=r"prompt\.json is not of the form its set has \(no 'edit'\)"):
        open_instructpix2pix(own_sets / "instructpix2pix").read(0, rng)
