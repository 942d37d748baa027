"""The embedded LLaVA: questions that share a picture do not see each other, and what is exported loads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessor, LlavaForConditionalGeneration

from maskedit.bench.blocks import Question
from maskedit.bench.blocks.questions import QUESTION_SHARES
from maskedit.bench.embedded.llava import (
    ASSISTANT,
    USER,
    LlavaRecipe,
    TrainedLlava,
    answer_logits,
    build_llava,
    draw_talks,
    export_llava,
    lay_out_talks,
    measure_answers,
    talk_mask,
    talk_vocabulary,
    train_llava,
)
from maskedit.bench.embedded.talk import TalkRecipe, load_album, render_album
from maskedit.bench.embedded.tokenizer import build_tokenizer
from maskedit.bench.embedded.views import ViewsRecipe
from maskedit.editors import OptimizeConfig, SessionError

RECIPE = LlavaRecipe(
    talk=TalkRecipe(views=ViewsRecipe(shards=1, views_per_shard=6, image_size=16), mirror_shards=1),
    width=32,
    layers=2,
    feed_forward=48,
    batch_size=2,
    questions=3,
    from_clip=False,
    optimize=OptimizeConfig(steps=2, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5),
)
QUESTIONS = [
    Question(family="color", text="what color is the left cube ?", answer="red"),
    Question(family="where", text="where is the left cube ?", answer="row 2 column 5"),
    Question(family="count", text="how many cubes are there ?", answer="2"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(talk_vocabulary(), length=RECIPE.length)


@pytest.fixture(scope="module")
def model(tokenizer) -> LlavaForConditionalGeneration:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_llava(RECIPE, tokenizer).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_every_word_is_one_token(tokenizer):
    for word in filter(str.isalnum, talk_vocabulary()):
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1


def test_questions_of_a_picture_do_not_see_each_other(model, tokenizer, pictures):
    together = lay_out_talks(pictures[:1], [QUESTIONS], tokenizer, device="cpu")
    logits = answer_logits(model, tokenizer, together)
    owners = together.group[together.labels != -100]
    for number, question in enumerate(QUESTIONS):
        alone = answer_logits(model, tokenizer, lay_out_talks(pictures[:1], [[question]], tokenizer, device="cpu"))
        torch.testing.assert_close(logits[owners == number], alone, rtol=1e-4, atol=1e-4)


def test_the_layout_is_that_of_the_plain_chat(model, tokenizer, pictures):
    """One conversation through transformers' own way, without any mask of ours."""
    question = QUESTIONS[1]
    batch = lay_out_talks(pictures[:1], [[question]], tokenizer, device="cpu")
    ours = answer_logits(model, tokenizer, batch)
    place = int(model.config.image_token_index)
    words = [tokenizer(text, add_special_tokens=False).input_ids for text in (USER, f"{question.text} {ASSISTANT}")]
    answer = [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    start = [tokenizer.bos_token_id, *words[0]]
    inner = model.model
    seen = inner.vision_tower((pictures[:1] - 0.5) / 0.25, output_hidden_states=True).hidden_states[-1][:, 1:]
    embed = inner.get_input_embeddings()
    rows = inner.multi_modal_projector(seen)
    ids = torch.tensor([[*start, *words[1], *answer]])
    embeds = embed(ids)
    embeds = torch.cat([embeds[:, : len(start)], rows, embeds[:, len(start) :]], 1)
    logits = model.lm_head(inner.language_model(inputs_embeds=embeds).last_hidden_state)[0]
    torch.testing.assert_close(ours, logits[-len(answer) - 1 : -1], rtol=1e-4, atol=1e-4)
    assert place >= len(tokenizer)
    assert batch.labels[0][batch.labels[0] != -100].tolist() == answer


def test_the_mask_is_causal_and_keeps_groups_apart():
    mask = talk_mask(torch.tensor([[0, 0, 1, -1]]), before=2)[0]
    assert mask.tolist() == [
        [True, False, False, False, False, False],
        [True, True, False, False, False, False],
        [True, True, True, False, False, False],
        [True, True, True, True, False, False],
        [True, True, False, False, True, False],
        [True, True, False, False, False, True],
    ]


def test_gaps_move_positions_and_nothing_else(tokenizer, pictures):
    plain = lay_out_talks(pictures, [QUESTIONS, QUESTIONS], tokenizer, device="cpu")
    moved = lay_out_talks(pictures, [QUESTIONS, QUESTIONS], tokenizer, device="cpu", rng=np.random.default_rng(0))
    assert torch.equal(plain.ids, moved.ids)
    assert torch.equal(plain.labels, moved.labels)
    assert ((moved.positions - plain.positions).amin() >= 0).item()
    assert not torch.equal(plain.positions, moved.positions)


def test_answers_are_right_only_when_every_word_is(model, tokenizer, pictures):
    batch = lay_out_talks(pictures[:1], [QUESTIONS[:1]], tokenizer, device="cpu")
    said = answer_logits(model, tokenizer, batch).argmax(-1)
    right = replace(QUESTIONS[0], answer=tokenizer.decode(said[:1]).strip() or "red")
    assert measure_answers(model, tokenizer, pictures[:1], [[QUESTIONS[0]]]) == [[False]]
    assert len(measure_answers(model, tokenizer, pictures[:1], [[right, QUESTIONS[1]]])[0]) == 2


def test_talks_are_drawn_from_the_generator_alone(tokenizer, tmp_path: Path):
    assert render_album(RECIPE.talk, tmp_path, lambda _: None, "cpu")
    album = load_album(RECIPE.talk, tmp_path)
    one, two = (draw_talks(RECIPE, album, tokenizer, torch.Generator().manual_seed(4), "cpu") for _ in range(2))
    assert torch.equal(one.ids, two.ids)
    assert torch.equal(one.pictures, two.pictures)
    assert one.pictures.shape == (2, 3, 16, 16)


def test_training_is_cut_and_resumed_to_the_same_bits(tmp_path: Path):
    assert train_llava(RECIPE, tmp_path, device="cpu", max_seconds=0.0, report=lambda _: None) is None
    assert render_album(RECIPE.talk, tmp_path, lambda _: None, "cpu")
    cut = train_llava(RECIPE, tmp_path, device="cpu", max_seconds=1e-3, report=lambda _: None)
    assert cut is not None and cut.step < 2
    lines: list[str] = []
    ended = train_llava(RECIPE, tmp_path, device="cpu", report=lines.append)
    assert {line.split()[-1] for line in lines if "validation" in line} == set(QUESTION_SHARES)
    lines.clear()
    assert train_llava(RECIPE, tmp_path, device="cpu", max_seconds=0.0, report=lines.append) is not None
    assert lines == []
    (tmp_path / "llava.state").unlink()
    whole = train_llava(RECIPE, tmp_path, device="cpu", report=lambda _: None)
    assert ended is not None and whole is not None and ended.step == whole.step == 2
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, ended.model.state_dict()[name])
    with pytest.raises(SessionError, match="another run"):
        train_llava(replace(RECIPE, mirrors=0.9), tmp_path, device="cpu", report=lambda _: None)


def test_an_export_loads_in_transformers(model, tokenizer, pictures, tmp_path: Path):
    export_llava(TrainedLlava(model=model, tokenizer=tokenizer, step=0), tmp_path)
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert loaded.dtype == torch.float32
    batch = lay_out_talks(pictures[:1], [QUESTIONS], tokenizer, device="cpu")
    torch.testing.assert_close(
        answer_logits(loaded, tokenizer, batch), answer_logits(model, tokenizer, batch), rtol=1e-2, atol=1e-2
    )
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("the left cube").input_ids == tokenizer("the left cube").input_ids
    form = CLIPImageProcessor.from_pretrained(tmp_path)
    assert (form.size["height"], form.size["width"]) == (16, 16)
    assert (list(form.image_mean), list(form.image_std)) == ([0.5] * 3, [0.25] * 3)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="questions must be at least 1, got 0"):
        LlavaRecipe(questions=0)
    with pytest.raises(ValueError, match="mirrors must be in"):
        LlavaRecipe(mirrors=1.5)
