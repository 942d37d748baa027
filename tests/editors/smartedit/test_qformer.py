"""The QFormer has the released layers, agrees with BERT's formulas written out, and reads only what it may."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from maskedit.editors.smartedit.architecture import SmartEditArchitecture
from maskedit.editors.smartedit.qformer import QFormer

from .conftest import TINY


@pytest.fixture
def qformer() -> QFormer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return QFormer(TINY, 48).eval()


def test_it_gives_as_many_rows_as_queries_for_any_number_of_states(qformer: QFormer) -> None:
    for count in (1, 4, 9):
        assert qformer(torch.randn(2, count, 48)).shape == (2, 7, 32)


def test_cross_attention_is_in_every_second_layer_from_the_first() -> None:
    with torch.device("meta"):
        full = QFormer(SmartEditArchitecture(), 4096)
    names = set(full.state_dict())
    crossing = [i for i in range(6) if f"layers.encoder.layer.{i}.crossattention.attention.key.weight" in names]
    assert crossing == [0, 2, 4]
    assert not [name for name in names if ".intermediate.dense" in name or "embeddings" in name]


def test_masked_rows_are_not_read(qformer: QFormer) -> None:
    states = torch.randn(2, 6, 48)
    mask = torch.tensor([[True, True, False, False, True, False], [False, False, False, True, True, True]])
    noisy = torch.where(mask[..., None], states, 100 * torch.randn_like(states))
    torch.testing.assert_close(qformer(states, mask), qformer(noisy, mask), rtol=0, atol=1e-6)
    alone = qformer(states[1:, 3:])
    torch.testing.assert_close(qformer(states, mask)[1:], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(qformer(states), qformer(noisy))


def attend(weights: dict[str, Tensor], name: str, x: Tensor, y: Tensor, heads: int) -> Tensor:
    def project(part: str, z: Tensor) -> Tensor:
        z = functional.linear(z, weights[f"{name}.attention.{part}.weight"], weights[f"{name}.attention.{part}.bias"])
        return z.unflatten(-1, (heads, -1)).transpose(1, 2)

    query, key, value = project("query", x), project("key", y), project("value", y)
    probabilities = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
    mixed = (probabilities @ value).transpose(1, 2).flatten(2)
    return finish(weights, f"{name}.output", mixed, x)


def finish(weights: dict[str, Tensor], name: str, mixed: Tensor, x: Tensor) -> Tensor:
    out = functional.linear(mixed, weights[f"{name}.dense.weight"], weights[f"{name}.dense.bias"])
    return functional.layer_norm(
        x + out, out.shape[-1:], weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"], 1e-12
    )


def test_it_is_bert_with_queries(qformer: QFormer, tolerance) -> None:
    for parameter in qformer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    weights = {name.removeprefix("layers."): each for name, each in qformer.state_dict().items()}
    states = torch.randn(2, 4, 48)
    x = functional.layer_norm(weights["queries"], (32,), weights["layernorm.weight"], weights["layernorm.bias"], 1e-12)
    x = x.expand(2, -1, -1)
    for i in range(3):
        layer = f"encoder.layer.{i}"
        x = attend(weights, f"{layer}.attention", x, x, 4)
        if i in (0, 2):
            x = attend(weights, f"{layer}.crossattention", x, states, 4)
        dense = f"{layer}.intermediate_query.dense"
        inner = functional.gelu(functional.linear(x, weights[f"{dense}.weight"], weights[f"{dense}.bias"]))
        x = finish(weights, f"{layer}.output_query", inner, x)
    torch.testing.assert_close(qformer(states), x, **vars(tolerance(torch.float32)))
