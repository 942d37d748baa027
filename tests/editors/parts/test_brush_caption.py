"""A searched caption describes the pictures better than the words it began with, and is the same every time."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from maskedit.editors.parts.brush_caption import _embedded_as, _Search, _search, search_caption
from maskedit.editors.parts.brush_clip import ClipScorer, load_clip
from maskedit.editors.parts.brush_options import CaptionSearchConfig

Pictures = Callable[..., torch.Tensor]
CONFIG = CaptionSearchConfig(tokens=4, steps=40)


@pytest.fixture
def clip(clip_folder: Path) -> ClipScorer:
    return load_clip(str(clip_folder), device="cpu")


def test_it_fits_better_than_where_it_began(clip: ClipScorer, pictures: Pictures) -> None:
    search = _Search(pictures(2), clip, CONFIG)
    search(0, torch.Generator().manual_seed(0))
    began = float(search._best_cosine)
    found = _search(pictures(2), clip, CONFIG)
    assert float(found._best_cosine) > began + 0.01
    text = search_caption(pictures(2), clip, CONFIG)
    assert text == search_caption(pictures(2), clip, CONFIG) == clip.processor.tokenizer.decode(found.best).strip()


def test_a_caption_is_whole_words(clip: ClipScorer, pictures: Pictures) -> None:
    search = _Search(pictures(2), clip, CONFIG)
    for step in range(3):
        search(step, torch.Generator().manual_seed(step))
        assert all(token.endswith("</w>") for token in clip.processor.tokenizer.convert_ids_to_tokens(search.best))


def test_the_loss_is_that_of_the_nearest_tokens(clip: ClipScorer, pictures: Pictures) -> None:
    """At embeddings that are tokens' own: what CLIP itself says of these tokens between start and end."""
    search = _Search(pictures(1), clip, CONFIG)
    tokenizer = clip.processor.tokenizer
    ids = torch.tensor([[tokenizer.bos_token_id, *search.best.tolist(), tokenizer.eos_token_id]])
    with torch.no_grad():
        read = clip.network.text_projection(clip.network.text_model(input_ids=ids).pooler_output)
    expected = 1 - torch.nn.functional.cosine_similarity(read, clip.embed_images(pictures(1)))[0]
    loss = search(0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss.detach(), expected, atol=1e-5, rtol=1e-4)
    loss.backward()
    assert search.soft.grad is not None and (search.soft.grad.abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in clip.network.parameters())


def test_neither_start_nor_end_is_a_word(clip: ClipScorer, pictures: Pictures) -> None:
    search = _Search(pictures(1), clip, CONFIG)
    special = torch.tensor(sorted(set(clip.processor.tokenizer.all_special_ids)))
    with torch.no_grad():
        search.soft.copy_(search._table[special[:1]].expand_as(search.soft))
    search(0, torch.Generator().manual_seed(0))
    assert not torch.isin(search.best, special).any()


def test_every_word_can_be_printed(clip: ClipScorer, pictures: Pictures) -> None:
    search, tokenizer = _Search(pictures(1), clip, CONFIG), clip.processor.tokenizer
    texts = [tokenizer.decode([number]) for number in search._allowed.nonzero()[:, 0].tolist()]
    assert texts and all(text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text for text in texts)
    every = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    assert any("\N{REPLACEMENT CHARACTER}" in text for text in every)


def test_the_layer_is_itself_again(clip: ClipScorer) -> None:
    layer = clip.network.text_model.get_input_embeddings()
    ids = torch.tensor([[1, 2, 3, 4]])
    before = layer(ids)

    def stop_midway() -> None:
        with _embedded_as(layer, torch.zeros(2, before.shape[-1])):
            assert not layer(ids)[:, 1:3].any()
            torch.testing.assert_close(layer(ids)[:, [0, 3]], before[:, [0, 3]])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_midway()
    assert torch.equal(layer(ids), before)
