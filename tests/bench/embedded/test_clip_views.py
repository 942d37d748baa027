"""States of scenes: drawn from seeds, rendered once, and captions that are true of some of them and not of others."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import Block, Scene
from maskedit.bench.embedded.captions import Caption, CaptionPhrase, full_caption
from maskedit.bench.embedded.clip_views import (
    States,
    StatesRecipe,
    block_words,
    caption_needs,
    is_true_of,
    load_states,
    make_states,
    render_states,
)
from maskedit.editors import SessionError

RECIPE = StatesRecipe(shards=2, scenes_per_shard=6, edits=2, image_size=32)


@pytest.fixture(scope="module")
def states() -> States:
    return make_states(RECIPE, "test", range(12), device="cpu")


def test_states_of_a_scene_share_their_camera_and_differ_in_an_edit(states: States) -> None:
    assert (len(states), states.each, len(states.views.scenes)) == (12, 3, 36)
    assert states.views.pictures.shape == (36, 3, 32, 32)
    changed = 0
    for scene, instructions in enumerate(states.instructions):
        rows = range(3 * scene, 3 * scene + 3)
        assert len({states.views.cameras[row] for row in rows}) == 1
        assert len({states.views.scenes[row] for row in rows}) == 3
        assert len(instructions) == 2
        before = states.views.pictures[rows[0]].int()
        changed += sum(bool((states.views.pictures[row].int() - before).abs().max() > 20) for row in rows[1:])
    assert changed > 18


def test_the_same_numbers_give_the_same_states(states: States) -> None:
    again = make_states(RECIPE, "test", range(4, 6), device="cpu")
    assert torch.equal(again.views.pictures, states.views.pictures[12:18])
    assert again.instructions == states.instructions[4:6]
    assert make_states(RECIPE, "train", range(4, 5), device="cpu").views.scenes != states.views.scenes[12:15]


def test_what_was_rendered_is_read_again(tmp_path: Path) -> None:
    lines: list[str] = []
    assert not render_states(RECIPE, tmp_path, lines.append, "cpu", deadline=0.0)
    with pytest.raises(SessionError, match=r"found no states_000\.safetensors"):
        load_states(RECIPE, tmp_path)
    assert render_states(RECIPE, tmp_path, lines.append, "cpu")
    assert lines == ["rendered states 1/2", "rendered states 2/2"]
    read, made = load_states(RECIPE, tmp_path), make_states(RECIPE, "train", range(12), device="cpu")
    assert torch.equal(read.views.pictures, made.views.pictures) and torch.equal(read.views.index, made.views.index)
    assert (read.views.scenes, read.instructions) == (made.views.scenes, made.instructions)
    with pytest.raises(SessionError, match="rendered by another recipe"):
        load_states(replace(RECIPE, edits=1), tmp_path)


def scene(*blocks: tuple[str, str, str]) -> Scene:
    """Blocks by size, colour and shape."""
    made = [
        Block(size=size, color=color, shape=shape, x=float(i), y=0.0)  # pyright: ignore[reportArgumentType]
        for i, (size, color, shape) in enumerate(blocks)
    ]
    return Scene(blocks=tuple(made))


def says(*phrases: str) -> Caption:
    words: list[str] = []
    named: list[CaptionPhrase] = []
    for place, phrase in enumerate(phrases):
        own = phrase.split()
        at = tuple(range(len(words), len(words) + len(own)))
        named.append(CaptionPhrase(words=at, noun=at[-1], blocks=(place,)))
        words += own
    return Caption(words=tuple(words), phrases=tuple(named))


def test_captions_are_true_of_what_has_all_they_name() -> None:
    scenes = [
        scene(("small", "red", "cube")),
        scene(("large", "red", "cube"), ("small", "blue", "sphere")),
        scene(("large", "blue", "cube"), ("small", "red", "sphere")),
        Scene(blocks=()),
    ]
    captions = [
        says("red cube"),
        says("smaller thing"),
        says("red cube", "blue sphere"),
        says("bigger red thing"),
        says("spheres"),
        says(),
    ]
    table = is_true_of(caption_needs(captions, blocks=4), block_words(scenes, blocks=5))
    expected = [
        [True, True, False, False, False, True],
        [True, True, True, True, True, True],
        [False, True, False, False, True, True],
        [False, False, False, False, False, True],
    ]
    assert table.tolist() == expected


def test_every_full_caption_is_true_of_its_own_picture(states: States) -> None:
    views = states.views
    captions = [full_caption(each, views.visible(row)) for row, each in enumerate(views.scenes)]
    table = is_true_of(caption_needs(captions, blocks=6), block_words(views.scenes, blocks=6))
    assert table.diagonal().all()
    assert table.float().mean() < 0.5


def test_recipes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="edits must be at least 1, got 0"):
        StatesRecipe(edits=0)
