"""Questions: their answers are what the scene says, in words of the vocabulary."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskedit.bench.blocks import Seen, draw_question, look_at, make_pairs, question_vocabulary, render
from maskedit.bench.blocks.questions import QUESTION_SHARES, grid_cell, refer


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    pairs = [
        *make_pairs("train", range(12), height=16, samples=1, references={"size": 1.0}).specs,
        *make_pairs("train", range(6), height=16, samples=1, mirror=True).specs,
    ]
    views = render([spec.scene for spec in pairs], [spec.camera for spec in pairs], samples=1)
    index, reflection = views.index.to(torch.int8), views.reflection.to(torch.int8)
    return [look_at(spec.scene, spec.camera, index[i], reflection[i]) for i, spec in enumerate(pairs)]


def questions(seen: list[Seen], family) -> list[tuple[Seen, str, str]]:
    rng = np.random.default_rng(0)
    drawn = [(view, draw_question(rng, view, family=family)) for view in seen for _ in range(8)]
    return [(view, question.text, question.answer) for view, question in drawn if question is not None]


@pytest.mark.parametrize("family", list(QUESTION_SHARES))
def test_every_family_is_asked_in_words_of_the_vocabulary(seen, family):
    asked = questions(seen, family)
    assert asked
    for _, text, answer in asked:
        assert set(f"{text} {answer}".split()) <= set(question_vocabulary())


def test_cells_are_counted_from_the_upper_left():
    assert grid_cell((0.1, 0.0, 0.99)) == "row 1 column 8"


def test_places_are_where_the_block_is_seen(seen):
    for view in seen:
        for block, (share, row, column) in view.visible.items():
            assert 0.008 <= share <= 1 and 0 <= row < 1 and 0 <= column < 1
            assert block < len(view.scene.blocks)
    assert any(view.reflected for view in seen)


def test_what_is_asked_by_size_is_answered_by_size(seen):
    larger = [(view, text, answer) for view, text, answer in questions(seen, "size") if "larger" in text]
    assert larger
    assert {answer for _, _, answer in larger} == {"large"}


def test_counts_and_lists_agree_with_the_scene(seen):
    for view, text, answer in questions(seen, "count"):
        if text == "how many things are there ?":
            assert int(answer) == len(view.scene.blocks)
    for view, _, answer in questions(seen, "list"):
        assert sorted(answer.split(" , ")) == sorted(view.scene.blocks[i].noun for i in view.visible)


def test_answers_do_not_stand_in_the_question(seen):
    for family in ("color", "shape", "size"):
        for _, text, answer in questions(seen, family):
            assert answer not in text.replace("what color", "").replace("what shape", "").split()


def test_a_scene_without_anything_offers_no_reference(seen):
    empty = replace(seen[0], visible={}, reflected={})
    assert refer(np.random.default_rng(0), empty, ("plain", "color", "mirror")) is None
    assert draw_question(np.random.default_rng(0), empty, family="where") is None


def test_known_phrasings_alone_can_be_asked_for(seen):
    rng = np.random.default_rng(0)
    drawn = [refer(rng, view, ("size",), only_known=True) for view in seen for _ in range(6)]
    assert not [phrase for phrase, _ in filter(None, drawn) if "than" in phrase or "of the two" in phrase]


def test_questions_can_leave_phrasings_and_families_out(seen):
    rng = np.random.default_rng(0)
    kept = [draw_question(rng, view, only_known=True, without=("meaning",)) for view in seen for _ in range(20)]
    drawn = [draw_question(rng, view) for view in seen for _ in range(20)]
    texts, others = ([question.text for question in each if question is not None] for each in (kept, drawn))
    held_out = ("farthest", "that is on", "of the two", "than the other", "object", "colored like")
    for words in (*held_out, "make the", "remove the"):
        assert any(words in text for text in others)
        assert not any(words in text for text in texts)
