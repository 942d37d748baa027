"""How each method of the tables learns, and what it begins from."""

from pathlib import Path

import pytest
import torch

from maskedit.bench.brush_edits import EDITS
from maskedit.bench.brush_methods import LEARNED, SEGMENTS, BrushMethod, LearnConfig, find_beginning, make_recipe
from maskedit.bench.brush_sets import BrushSet, blocks_set
from maskedit.editors import CaptionSearchConfig, ClipScorer, PhraseConfig, load_clip

CONFIG = LearnConfig(
    steps=7,
    learning_rate=0.02,
    embedding_rate=0.03,
    phrases=PhraseConfig(threshold=0.0),
    caption=CaptionSearchConfig(tokens=3, steps=2),
)


@pytest.fixture(scope="module")
def edit() -> BrushSet:
    return blocks_set(EDITS["faded"], train=2, test=1, split="validation", height=64)


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> ClipScorer:
    return load_clip(str(clip_folder), device="cpu")


@pytest.mark.parametrize("method", LEARNED)
def test_all_see_as_many_noisy_pictures(method: BrushMethod) -> None:
    recipe = make_recipe(method, CONFIG, has_clip=False)
    assert recipe.steps * recipe.segments * recipe.batch == SEGMENTS * CONFIG.steps


def test_ablations_differ_from_the_method_in_one_thing() -> None:
    full, attention, time, begin = (
        make_recipe(method, CONFIG, initial_text="a", has_clip=True)
        for method in ("instructbrush", "without-attention", "without-time", "without-initialisation")
    )
    assert (full.learn, full.segments, full.learning_rate) == ("attention", 5, 0.02)
    assert (attention.learn, attention.segments, attention.learning_rate) == ("embedding", 5, 0.03)
    assert (time.learn, time.segments, time.steps) == ("attention", 1, 35)
    assert begin == full


def test_visii_follows_the_edit_where_there_is_a_clip() -> None:
    told, alone = (make_recipe("visii", CONFIG, has_clip=each) for each in (True, False))
    assert (told.kind, told.learn, told.segments, told.clip_values) == ("visii", "embedding", 1, True)
    assert (told.direction_weight, alone.direction_weight) == (0.1, 0.0)


def test_without_a_clip_only_the_content_is_known(edit: BrushSet) -> None:
    texts = {method: find_beginning(method, edit, 1, None, CONFIG) for method in LEARNED}
    of_content = {"visii", "without-initialisation"}
    assert texts == {method: edit.content if method in of_content else "" for method in LEARNED}


def test_a_clip_tells_the_sides_apart(edit: BrushSet, clip: ClipScorer, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("grey\ncolorful\nred cube\nold print\n")
    config = LearnConfig(phrases=PhraseConfig(vocabulary=words, threshold=0.0))
    text = find_beginning("instructbrush", edit, 2, clip, config)
    assert text.startswith("turn ") and " into " in text
    assert find_beginning("without-time", edit, 2, clip, config) == text
    assert find_beginning("visii", edit, 2, clip, config) == edit.content


def test_content_that_nobody_gives_is_searched(edit: BrushSet, clip: ClipScorer) -> None:
    silent = BrushSet(name="x", scope="global", instruction="", train=edit.train, test=edit.test)
    with torch.random.fork_rng(devices=[]):
        found = find_beginning("visii", silent, 1, clip, CONFIG)
    assert found


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "steps must be at least 1, got 0"),
        ("learning_rate", 0.0, "learning_rate must be above 0, got 0"),
        ("embedding_rate", -1.0, "embedding_rate must be above 0, got -1"),
        ("chunk", 0, "chunk must be at least 1, got 0"),
    ],
)
def test_impossible_numbers_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnConfig(**{name: value})  # pyright: ignore[reportArgumentType]
