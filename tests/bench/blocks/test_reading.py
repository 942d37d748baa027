"""Reading sets: the truth of the standard pairs, in words that the training split may or may not use."""

import numpy as np
import pytest
import torch

from maskedit.bench.blocks import COLORS, SHAPES, Block, make_pairs, name_blocks
from maskedit.bench.blocks.reading import (
    FAMILIES,
    combination_of,
    is_held_out,
    make_reading_pairs,
    name_plainly,
    phrase_reference,
    reading_vocabulary,
)
from maskedit.editors import InputError

SETS = ("understanding", "reasoning")


@pytest.mark.parametrize("which", SETS)
def test_the_same_arguments_give_the_same_pairs_in_any_batch(which):
    together = make_reading_pairs("train", range(6), which=which, height=24, samples=1)
    alone = make_reading_pairs("train", [4], which=which, height=24, samples=1)
    assert together.specs[4] == alone.specs[0]
    assert torch.equal(together.source[4:5], alone.source)
    assert torch.equal(together.target[4:5], alone.target)
    assert torch.equal(together.masks[4], alone.masks[0])


@pytest.mark.parametrize("which", SETS)
def test_phrasings_share_scenes_and_edits_but_no_words_for_the_target(which):
    known = make_reading_pairs("train", range(24), which=which, height=24, samples=1)
    held_out = make_reading_pairs("train", range(24), which=which, phrasing="held-out", height=24, samples=1)
    assert torch.equal(known.source, held_out.source)
    assert torch.equal(known.target, held_out.target)
    phrases = [{spec.edits[0].named.phrase for spec in pairs.specs} for pairs in (known, held_out)]
    assert not phrases[0] & phrases[1]
    for pairs in (known, held_out):
        for spec in pairs.specs:
            edit = spec.edits[0]
            assert edit.named.phrase in edit.text
            assert edit.keyword in edit.text
            assert edit.named.family in FAMILIES[which]


def test_the_training_split_leaves_out_the_held_out_combinations():
    trained = make_reading_pairs("train", range(40), which="reasoning", height=16, samples=1)
    assert {combination_of(spec) for spec in trained.specs} == {"known"}
    asked = make_reading_pairs(
        "test", range(4), which="reasoning", combinations="held-out", kinds={"recolor": 1.0}, height=16, samples=1
    )
    assert {combination_of(spec) for spec in asked.specs} == {"held-out"}
    assert not {spec.scene for spec in trained.specs} & {spec.scene for spec in asked.specs}


def test_one_color_is_held_out_for_each_kind_and_shape():
    for kind in ("recolor", "remove", "resize", "reshape", "add"):
        for shape in SHAPES:
            blocks = [Block(shape=shape, color=color, size="small", x=0.0, y=0.0) for color in COLORS]
            assert sum(is_held_out(kind, block) for block in blocks) == 1


def test_mirrors_stand_where_references_need_them():
    pairs = make_reading_pairs(
        "train", range(4), which="understanding", families={"mirror": 1.0}, height=48, samples=1, kinds={"recolor": 1.0}
    )
    for spec in pairs.specs:
        assert spec.scene.mirror is not None
        assert spec.edits[0].named.reflected
        assert "mirror" in spec.instruction


def test_plain_words_name_the_same_blocks():
    pairs = make_reading_pairs("train", range(30), which="understanding", height=24, samples=1)
    seen = 0
    for spec in pairs.specs:
        named, blocks = spec.edits[0].named, range(len(spec.scene.blocks))
        words = name_plainly(spec.scene, named, blocks)
        if named.family in ("mirror", "multiple") or words is None:
            continue
        visible = dict.fromkeys(blocks, 1.0)
        plain = name_blocks(spec.scene, "plain", visible=visible, across=[], reflected_visible={})
        assert named.targets in [option.targets for option in plain if option.phrase == words]
        seen += 1
    assert seen > 10


def test_standard_pairs_are_no_reading_references():
    pairs = make_pairs("train", range(6), height=24, samples=1, references={"plain": 1.0})
    with pytest.raises(InputError, match="plain"):
        phrase_reference(np.random.default_rng(0), pairs.specs[0].scene, pairs.specs[0].edits[0].named, "known")


def test_every_word_of_every_phrase_is_in_the_vocabulary():
    standard = set("make turn paint change to remove delete take away into a replace with add put on top of".split())
    standard |= {*COLORS, *SHAPES, "small", "large", "bigger", "things"}
    words = set(reading_vocabulary()) | standard
    for which in SETS:
        for phrasing in ("known", "held-out"):
            pairs = make_reading_pairs("train", range(30), which=which, phrasing=phrasing, height=16, samples=1)
            said = {word for spec in pairs.specs for word in spec.instruction.split()}
            assert said <= words


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="at least one"):
        make_reading_pairs("train", [], which="reasoning")
    with pytest.raises(InputError, match="mirror"):
        make_reading_pairs("train", [0], which="reasoning", families={"mirror": 1.0})
