"""Captions: what they may say, that it is true, and that each word is one token."""

import re
from dataclasses import replace

import numpy as np
import pytest

from maskedit.bench.blocks import Block, Scene, vocabulary
from maskedit.bench.embedded.captions import (
    EMPTY_CAPTIONS,
    Caption,
    caption_of_block,
    caption_vocabulary,
    draw_caption,
    full_caption,
)
from maskedit.bench.embedded.tokenizer import build_tokenizer

RED = Block(shape="cube", color="red", size="large", x=-1.0, y=0.0)
BLUE = Block(shape="cube", color="blue", size="small", material="shiny", x=1.0, y=0.0)
BALL = Block(shape="sphere", color="green", size="small", x=0.0, y=1.0)
SCENE = Scene(blocks=(RED, BLUE, BALL))
ACROSS = [-0.5, 0.5, 0.0]
VISIBLE = {0: 90.0, 1: 60.0, 2: 50.0}
GUEST = Block(shape="cylinder", color="white", size="small", x=RED.x, y=RED.y, z=2 * RED.half)


def captions(scene: Scene = SCENE, visible: dict[int, float] = VISIBLE, count: int = 400) -> list[Caption]:
    rng = np.random.default_rng(0)
    across = [*ACROSS, -0.5][: len(scene.blocks)]
    return [draw_caption(rng, scene, visible=visible, across=across) for _ in range(count)]


def words(caption: Caption, phrase: int) -> list[str]:
    return [caption.words[i] for i in caption.phrases[phrase].words]


def test_captions_differ_in_what_they_name_and_in_detail():
    drawn = captions()
    assert len({caption.text for caption in drawn}) > 200
    assert {len(caption.phrases) for caption in drawn} == {1, 2, 3}
    assert 0.35 < sum(caption.text.startswith("photo of ") for caption in drawn) / len(drawn) < 0.6
    assert SCENE.caption in {caption.text for caption in drawn}


def test_what_a_phrase_says_is_true_of_its_blocks():
    sizes = {"small": {"small", "smaller"}, "large": {"large", "larger", "bigger"}}
    for caption in captions():
        for i, phrase in enumerate(caption.phrases):
            said = set(words(caption, i))
            assert caption.words[phrase.noun] in said
            for block in (SCENE.blocks[k] for k in phrase.blocks):
                true = {block.color, block.shape, f"{block.shape}s", block.material, *sizes[block.size]}
                true |= {"thing", "things", "on", "the", "left" if block is RED else "right"}
                assert said <= true, caption.text


def test_each_block_is_named_by_colour_or_shape():
    for caption in captions():
        for i in range(len(caption.phrases)):
            assert set(words(caption, i)) & {"red", "blue", "green", "cube", "sphere", "cubes"}


def test_sides_turn_with_the_mirrored_picture():
    rng = np.random.default_rng(1)
    mirrored = [
        draw_caption(rng, SCENE, visible=VISIBLE, across=[-x for x in ACROSS]).text.split(",")[0] for _ in range(400)
    ]
    assert not any(re.search(r"left red|red cube on the left", text) for text in mirrored)
    assert any("left cube" in text for text in mirrored)


def test_hidden_blocks_are_not_named():
    for caption in captions(visible={1: 60.0}):
        assert [phrase.blocks for phrase in caption.phrases] == [(1,)]
        assert not {"red", "green", "sphere", "left"} & set(caption.words)


def test_several_alike_are_named_together():
    plural = [c for c in captions() if "cubes" in c.words]
    assert plural
    assert all(c.phrases[0].blocks == (0, 1) for c in plural)
    assert any(c.text == "photo of cubes" for c in captions(Scene(blocks=(RED, BLUE)), {0: 1.0, 1: 1.0}))


def test_what_stands_on_a_block_is_named_with_it():
    scene = replace(SCENE, blocks=(*SCENE.blocks, GUEST))
    drawn = captions(scene, {**VISIBLE, 3: 40.0})
    stacked = [c for c in drawn if c.text.endswith(" on top")]
    assert any(re.fullmatch(r"photo of a red cube with a white cylinder on top", c.text) for c in stacked)
    for caption in stacked:
        assert [phrase.blocks for phrase in caption.phrases][-2:] == [(0,), (3,)]
        assert caption.words[caption.phrases[-1].noun] in {"cylinder", "thing"}


@pytest.mark.parametrize("scene", [Scene(blocks=()), SCENE])
def test_nothing_visible_is_an_empty_picture(scene: Scene):
    assert {caption.text for caption in captions(scene, {})} == set(EMPTY_CAPTIONS)
    assert full_caption(scene, {}).text == "an empty floor"


def test_the_full_caption_is_the_scenes():
    assert full_caption(SCENE, VISIBLE).text == SCENE.caption
    assert [phrase.blocks for phrase in full_caption(SCENE, VISIBLE).phrases] == [(0,), (1,), (2,)]


def test_a_caption_of_one_block_names_that_block():
    rng = np.random.default_rng(0)
    drawn = [caption_of_block(rng, SCENE, 2, visible=VISIBLE, across=ACROSS) for _ in range(50)]
    assert all([phrase.blocks for phrase in caption.phrases] == [(2,)] for caption in drawn)
    assert {"photo of a green sphere", "a green sphere"} <= {caption.text for caption in drawn}


def test_every_word_is_known_and_one_token():
    known = caption_vocabulary()
    assert set(vocabulary()) < set(known)
    tokenizer = build_tokenizer(known, length=48)
    scene = replace(SCENE, blocks=(*SCENE.blocks, GUEST))
    for caption in captions(scene, {**VISIBLE, 3: 40.0}):
        assert set(caption.words) <= set(known)
        ids = tokenizer(caption.text).input_ids[1:-1]
        assert [tokenizer.decode([i]).strip() for i in ids] == list(caption.words)
