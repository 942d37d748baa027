"""Phrases: each means what a reader of the scene would say it means, mirrored or not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskedit.bench.blocks import COLORS, SHAPES, SIZES, Block, OrbitCamera, Scene, vocabulary
from maskedit.bench.embedded.phrases import (
    ATTRIBUTES,
    FAMILY_WEIGHTS,
    MIRRORED_ATTRIBUTES,
    WORDS,
    Phrase,
    PhraseBook,
    attribute_table,
    draw_absent,
    draw_phrase,
    list_phrases,
    mirror_phrase,
    target_mask,
    word_table,
)
from maskedit.bench.embedded.views import Views, ViewsRecipe, make_views

RECIPE = ViewsRecipe(twins_share=0.7, image_size=32)


@pytest.fixture(scope="module")
def views() -> Views:
    return make_views(RECIPE, "test", range(60), device="cpu")


def block(shape: str, color: str, size: str = "large", **more) -> Block:
    return Block(**{"shape": shape, "color": color, "size": size, "x": 0.0, "y": 0.0, **more})


def view_of(*blocks: Block, index: torch.Tensor) -> Views:
    """One view from the side of +x, where larger y lies further right."""
    camera = OrbitCamera(azimuth=0.0, elevation=0.5)
    pictures = torch.zeros(1, 3, *index.shape, dtype=torch.uint8)
    return Views(pictures=pictures, index=index[None], scenes=(Scene(blocks=blocks),), cameras=(camera,))


TWO_RED_CUBES = view_of(
    block("cube", "red", "small", y=-1.0, material="shiny"),
    block("cube", "red", "large", y=1.0),
    block("sphere", "blue", "large"),
    index=torch.arange(3, dtype=torch.int8).repeat_interleave(12).view(6, 6),
)


def targets(phrases: list[Phrase]) -> dict[str, tuple[int, ...]]:
    return {phrase.text: phrase.targets for phrase in phrases}


def test_every_family_names_what_a_reader_would():
    found = list_phrases(TWO_RED_CUBES, 0)
    assert targets(found["plain"])["blue sphere"] == (2,)
    assert targets(found["color"]) == {"blue thing": (2,)}
    assert targets(found["left_right"])["left cube"] == (0,)
    assert targets(found["size"]) == {"smaller cube": (0,), "larger cube": (1,)}
    assert targets(found["multiple"]) == {"cubes": (0, 1), "red things": (0, 1)}
    assert targets(found["twin"])["right red cube"] == targets(found["twin"])["red cube on the right"] == (1,)
    assert targets(found["described"])["small shiny red cube"] == (0,)
    assert targets(found["described"])["matte cube"] == (1,)
    assert "red cube" not in targets(found["described"])
    assert targets(found["any"])["red cube"] == (0, 1)
    assert targets(found["any"])["large thing"] == (1, 2)


def test_a_hidden_block_is_not_named_but_still_counts():
    hidden = replace(TWO_RED_CUBES, index=torch.where(TWO_RED_CUBES.index == 0, -1, TWO_RED_CUBES.index).to(torch.int8))
    found = list_phrases(hidden, 0)
    assert "twin" not in found and "multiple" not in found
    assert "red cube" not in targets(found["described"])
    assert all(0 not in phrase.targets for phrase in found["described"])


def test_phrases_stay_in_the_vocabulary(views: Views):
    words, rng = set(vocabulary()), np.random.default_rng(0)
    for view, scene in enumerate(views.scenes):
        phrases = list_phrases(views, view)
        assert all(phrases.values())
        for _ in range(8):
            assert set(draw_phrase(rng, phrases, scene, absent_share=0.3).text.split()) <= words


def test_one_block_is_described_by_words_that_fit_no_other(views: Views):
    seen = 0
    for view, scene in enumerate(views.scenes):
        for phrase in list_phrases(views, view).get("described", ()):
            words = set(phrase.text.split()) - {"thing"}
            fitting = [i for i, b in enumerate(scene.blocks) if words <= {b.color, b.shape, b.size, b.material}]
            assert tuple(fitting) == phrase.targets
            seen += 1
    assert seen > 200


def test_what_is_absent_is_not_there(views: Views):
    rng, near = np.random.default_rng(1), 0
    for scene in views.scenes * 5:
        phrase = draw_absent(rng, scene)
        assert phrase.targets == ()
        properties = set(phrase.text.split()) & {*COLORS, *SHAPES, *SIZES}
        assert properties
        assert not any(properties <= {b.color, b.shape, b.size} for b in scene.blocks)
        near += any(properties & {b.color, b.shape} for b in scene.blocks)
    assert near > 100


def test_as_many_phrases_are_absent_as_asked(views: Views):
    rng = np.random.default_rng(2)
    for share in (0.0, 0.5, 1.0):
        drawn = [draw_phrase(rng, list_phrases(views, 3), views.scenes[3], absent_share=share) for _ in range(200)]
        assert sum(not phrase.targets for phrase in drawn) == pytest.approx(200 * share, abs=30)
        assert all((phrase.family == "absent") == (not phrase.targets) for phrase in drawn)


def test_phrases_come_with_and_without_article():
    rng, phrases = np.random.default_rng(3), list_phrases(TWO_RED_CUBES, 0)
    drawn = {draw_phrase(rng, phrases, TWO_RED_CUBES.scenes[0], absent_share=0.0).text for _ in range(1500)}
    assert {"left red cube", "the left red cube", "all cubes", "the cubes", "a red cube", "red cube"} <= drawn


def test_an_empty_scene_is_asked_for_what_is_absent():
    empty = view_of(index=torch.full((4, 4), -1, dtype=torch.int8))
    assert list_phrases(empty, 0) == {}
    phrase = draw_phrase(np.random.default_rng(0), {}, empty.scenes[0], absent_share=0.0)
    assert phrase.family == "absent"


def test_every_drawn_family_has_a_weight(views: Views):
    families = {family for view in range(len(views.scenes)) for family in list_phrases(views, view)}
    assert families == set(FAMILY_WEIGHTS)


def test_attributes_say_what_holds_for_each_block():
    table = attribute_table(TWO_RED_CUBES.scenes[0], list_phrases(TWO_RED_CUBES, 0))
    said = [{name for name, holds in zip(ATTRIBUTES, row, strict=True) if holds} for row in table.tolist()]
    left = {"left_right left", "twin left", "size smaller", "twin smaller"}
    right = {"left_right right", "twin right", "size larger", "twin larger"}
    assert said == [
        {"red", "cube", "small", "shiny"} | left,
        {"red", "cube", "large"} | right,
        {"blue", "sphere", "large"},
    ]


def test_a_flipped_picture_swaps_left_and_right():
    assert mirror_phrase("red cube on the left") == "red cube on the right"
    assert mirror_phrase(mirror_phrase("the right thing")) == "the right thing"
    assert mirror_phrase("larger cube") == "larger cube"
    for here, there in enumerate(MIRRORED_ATTRIBUTES):
        assert mirror_phrase(ATTRIBUTES[here]) == ATTRIBUTES[there]
        assert MIRRORED_ATTRIBUTES[there] == here


def test_words_are_counted_in_the_singular_and_the_plural():
    table = word_table(["the left red cube", "all cubes", "the thing that has corners"])
    said = [{word for word, holds in zip(WORDS, row, strict=True) if holds} for row in table.tolist()]
    assert said == [{"left", "red", "cube"}, {"cube"}, set()]


def test_a_mask_shows_all_targets_and_nothing_else():
    index = TWO_RED_CUBES.index[0]
    phrases = list_phrases(TWO_RED_CUBES, 0)
    (both,) = [phrase for phrase in phrases["multiple"] if phrase.text == "cubes"]
    assert torch.equal(target_mask(index, both), ((index == 0) | (index == 1)).float())
    absent = Phrase(text="green cube", family="absent", targets=())
    assert not target_mask(index, absent).any()


def test_a_book_gives_what_would_be_listed(views: Views):
    book = PhraseBook(views)
    for view in (4, 4, 9):
        phrases = list_phrases(views, view)
        assert book.phrases(view) == phrases
        assert torch.equal(book.attributes(view), attribute_table(views.scenes[view], phrases))
