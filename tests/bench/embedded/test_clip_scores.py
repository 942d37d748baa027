"""The scores count what they say: perfect embeddings are perfect, and ranks are ranks."""

import pytest
import torch

from maskedit.bench.embedded.captions import caption_vocabulary
from maskedit.bench.embedded.clip import ClipRecipe, TrainedClip, build_clip, load_editor_text
from maskedit.bench.embedded.clip_scores import _retrieval, measure_clip, rank_of_own
from maskedit.bench.embedded.clip_views import StatesRecipe
from maskedit.bench.embedded.tokenizer import build_tokenizer


def test_ranks_count_what_is_as_close() -> None:
    cosines = torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.1, 0.4], [0.3, 0.0, 0.3]])
    assert rank_of_own(cosines).tolist() == [1, 3, 2]


def test_retrieval_leaves_out_equal_texts() -> None:
    seen = torch.eye(4)
    assert _retrieval(seen, seen, ["a", "b", "c", "d"]) == (1.0, 1.0)
    read = seen[[0, 1, 3, 2]]
    assert _retrieval(seen, read, ["a", "b", "c", "d"]) == (0.5, 0.5)
    assert _retrieval(seen, read + 0.1 * seen, ["a", "b", "c", "c"]) == (1.0, 1.0)


@pytest.mark.slow
def test_a_network_that_knows_nothing_scores_by_chance() -> None:
    tokenizer = build_tokenizer(caption_vocabulary(), length=48)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_clip(ClipRecipe(from_segmenter=False), tokenizer).eval()
    trained = TrainedClip(model=model, tokenizer=tokenizer, step=0)
    scores = measure_clip(trained, load_editor_text("cpu"), StatesRecipe(), device="cpu", split="test", count=12)
    assert (scores.scenes, scores.ranked) == (12, 8)
    assert scores.edits > 60
    assert scores.caption_of_picture < 0.5 and scores.caption_first < 0.4
    assert 2 < scores.caption_rank < 7 and 2 < scores.instruction_rank < 7
    assert abs(scores.caption_cosine - scores.other_cosine) < 0.2
