"""The embedded editor: what its localisation losses ask for, and what one training loss is made of."""

from dataclasses import replace

import pytest
import torch
from transformers import CLIPTokenizer

from maskedit.bench.blocks import vocabulary
from maskedit.bench.embedded.corpus import Corpus
from maskedit.bench.embedded.editor import (
    EditorModel,
    EditorRecipe,
    TokenizedCorpus,
    build_scheduler,
    editor_loss,
    localisation_losses,
    tokenize_corpus,
)
from maskedit.bench.embedded.tokenizer import build_tokenizer

RECIPE = EditorRecipe(block_out_channels=(16, 32), text_width=32, text_layers=1, text_length=24, batch_size=4)
TEXTS = [
    [("make the red cube blue", "red cube")],
    [("remove the large sphere", "large sphere"), ("paint the left cylinder green", "left cylinder")],
    [("turn the sphere into a cube", "sphere")],
]


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(vocabulary(), length=RECIPE.text_length)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    masks = (rand(3, 2, 4, 4) > 0.6).float()
    masks[[0, 2], 1] = 0
    latents = rand(5, 4, 4, 4, seed=1) * 2 - 1
    return Corpus(
        source=latents[:2],
        target=latents[2:],
        scene=torch.tensor([0, 1, 1]),
        masks=masks,
        changed=masks.amax(1, keepdim=True),
        texts=TEXTS,
    )


@pytest.fixture(scope="module")
def tokens(corpus: Corpus, tokenizer: CLIPTokenizer) -> TokenizedCorpus:
    return tokenize_corpus(corpus, tokenizer, "cpu")


@pytest.fixture(scope="module")
def model(tokenizer: CLIPTokenizer) -> EditorModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EditorModel(RECIPE, vocabulary=len(tokenizer), channels=4, size=4)


# Localisation: one phrase whose object fills the first four of sixteen cells.
MASK = torch.zeros(1, 1, 16).index_fill_(2, torch.arange(4), 1.0)


def losses(maps: torch.Tensor, masks: torch.Tensor = MASK) -> tuple[float, float]:
    ratio, flat = localisation_losses(maps, masks)
    return ratio.item(), flat.item()


@pytest.mark.parametrize("level", [1.0, 0.01])
def test_a_flat_map_on_the_object_costs_nothing(level: float):
    assert losses(level * MASK) == pytest.approx((0, 0), abs=1e-6)


def test_attention_outside_costs_more_the_more_there_is():
    spilt = [losses(0.5 * MASK + spill * (1 - MASK)) for spill in (0.0, 0.05, 0.1, 0.5)]
    assert spilt == sorted(spilt)
    assert len(set(spilt)) == 4
    # Share inside 0.5 x 4 / (0.5 x 4 + 0.1 x 12); outside, a fifth of the level inside.
    assert spilt[2] == pytest.approx(((1 - 2 / 3.2) ** 2, 0.2**2), abs=1e-6)


def test_uneven_attention_on_the_object_costs_flatness_alone():
    maps = MASK.clone()
    uneven = []
    for peak in (0.0, 0.2, 0.4):
        maps[..., :4] = torch.tensor([0.5 - peak, 0.5 + peak, 0.5, 0.5])
        uneven.append(losses(maps))
    assert [ratio for ratio, _ in uneven] == pytest.approx([0, 0, 0], abs=1e-6)
    assert [flat for _, flat in uneven] == pytest.approx([0, 0.08, 0.32], abs=1e-6)


def test_cells_half_on_the_object_count_half():
    half = MASK.clone()
    half[..., 3] = 0.5
    ratio, flat = losses(MASK, half)
    assert ratio == pytest.approx((1 - 3.5 / 4) ** 2)
    assert flat == pytest.approx(0.5 / 12.5)


def test_absent_phrases_are_ignored():
    maps = rand(2, 3, 16)
    masks = MASK.repeat(2, 3, 1)
    present = localisation_losses(maps[:, :1], masks[:, :1])
    masks[:, 1:] = 0
    assert losses(maps, masks) == pytest.approx([value.item() for value in present])
    assert losses(maps, torch.zeros_like(masks)) == (0, 0)


@pytest.mark.parametrize("maps", [torch.zeros(1, 1, 16), MASK, 1 - MASK, rand(1, 1, 16), 1e-9 * rand(1, 1, 16)])
@pytest.mark.parametrize("masks", [MASK, torch.zeros_like(MASK), torch.ones_like(MASK)])
def test_gradients_are_finite(maps: torch.Tensor, masks: torch.Tensor):
    maps = maps.clone().requires_grad_()
    ratio, flat = localisation_losses(maps, masks)
    (gradient,) = torch.autograd.grad(ratio + flat, maps)
    assert gradient.isfinite().all()


def test_descending_the_losses_moves_attention_onto_the_object():
    logits = rand(1, 1, 16, seed=3).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        ratio, flat = localisation_losses(logits.softmax(-1), MASK)
        optimizer.zero_grad()
        (ratio + flat).backward()
        optimizer.step()
    maps = logits.softmax(-1)[0, 0]
    assert maps[:4].sum() > 0.95
    assert maps[:4].max() < 1.2 * maps[:4].min()


def test_tokens_name_the_whole_keyword_and_its_last_word(tokens: TokenizedCorpus, tokenizer: CLIPTokenizer):
    assert tokens.ids.shape == (3, 24)
    assert tokens.keywords.shape == (3, 4, 24)
    decoded = [
        [(tokenizer.decode(tokens.ids[row][phrase > 0]), phrase.sum().item()) for phrase in tokens.keywords[row]]
        for row in range(3)
    ]
    none = ("", 0.0)
    assert decoded[0] == [("red cube", 1.0), none, ("cube", 1.0), none]
    assert decoded[1] == [("large sphere", 1.0), ("left cylinder", 1.0), ("sphere", 1.0), ("cylinder", 1.0)]
    assert decoded[2] == [("sphere", 1.0), none, ("sphere", 1.0), none]
    assert tokenizer.decode(tokens.empty[0], skip_special_tokens=True) == ""


def loss_of(model: EditorModel, corpus: Corpus, tokens: TokenizedCorpus, seed: int = 0, **options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return editor_loss(model, replace(RECIPE, **options), build_scheduler(), corpus, tokens, generator)


def test_the_loss_repeats_and_depends_on_the_seed(model: EditorModel, corpus: Corpus, tokens: TokenizedCorpus):
    assert torch.equal(loss_of(model, corpus, tokens), loss_of(model, corpus, tokens))
    assert not torch.equal(loss_of(model, corpus, tokens), loss_of(model, corpus, tokens, seed=1))


def test_gradients_reach_both_networks(model: EditorModel, corpus: Corpus, tokens: TokenizedCorpus):
    names = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss_of(model, corpus, tokens), list(names.values()), allow_unused=True)
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(g.abs().max() > 0 for n, g in zip(names, gradients, strict=True) if n.startswith("text_encoder"))
    assert type(model.unet.mid_block.attentions[0].transformer_blocks[0].attn2.processor).__name__ == "AttnProcessor2_0"


def test_localisation_adds_to_the_loss_only_where_something_is_named(
    model: EditorModel, corpus: Corpus, tokens: TokenizedCorpus
):
    plain = loss_of(model, corpus, tokens, ratio_weight=0.0, flat_weight=0.0)
    ratio = loss_of(model, corpus, tokens, ratio_weight=0.1, flat_weight=0.0) - plain
    assert 0 < ratio <= 0.1
    torch.testing.assert_close(loss_of(model, corpus, tokens, ratio_weight=0.2, flat_weight=0.0) - plain, 2 * ratio)
    assert loss_of(model, corpus, tokens, ratio_weight=0.0, flat_weight=0.1) > plain
    # With a drop share above a third, every sample has lost its text, its picture or both.
    dropped = loss_of(model, corpus, tokens, drop_text=0.34)
    assert torch.equal(loss_of(model, corpus, tokens, drop_text=0.34, ratio_weight=9.0, flat_weight=9.0), dropped)


def test_a_sample_that_loses_only_its_text_learns_to_change_nothing(
    model: EditorModel, corpus: Corpus, tokens: TokenizedCorpus
):
    edited = replace(corpus, target=-corpus.target, changed=1 - corpus.changed)
    assert not torch.equal(loss_of(model, edited, tokens), loss_of(model, corpus, tokens))
    textless = loss_of(model, corpus, tokens, drop_text=1.0)
    assert torch.equal(loss_of(model, edited, tokens, drop_text=1.0), textless)
    assert not torch.equal(loss_of(model, replace(corpus, source=-corpus.source), tokens, drop_text=1.0), textless)


def test_the_scheduler_predicts_v_and_scales_nothing():
    scheduler = build_scheduler()
    assert scheduler.config.prediction_type == "v_prediction"
    assert not scheduler.config.clip_sample
