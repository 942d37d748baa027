"""A fresh interaction changes nothing; a trained one follows the released formulas and knows rows from columns."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from maskedit.editors.core.errors import ModelError
from maskedit.editors.smartedit.architecture import SmartEditArchitecture
from maskedit.editors.smartedit.interaction import Interaction

from .conftest import TINY


def make(architecture: SmartEditArchitecture = TINY, *, stirred: bool = True) -> Interaction:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Interaction(architecture).eval()
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter) if stirred else 0
    return module


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 7, 32, generator=generator), torch.randn(2, 16, 32, generator=generator)


@pytest.mark.parametrize("kind", ["two-way", "image-only", "none"])
def test_a_fresh_one_changes_nothing(kind, inputs: tuple[Tensor, Tensor]) -> None:
    context, features = make(replace(TINY, interaction=kind), stirred=False)(*inputs, (8, 8))
    assert torch.equal(context, inputs[0])
    assert features is None if kind == "none" else features is not None and not features.any()


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (32, 40)])
def test_features_have_the_size_of_the_latents(size: tuple[int, int], inputs: tuple[Tensor, Tensor]) -> None:
    context, features = make()(*inputs, size)
    assert context.shape == (2, 7, 32)
    assert features is not None and features.shape == (2, 16, *size)


def test_rows_stay_rows(inputs: tuple[Tensor, Tensor]) -> None:
    """Features that change with the row alone give wide results that change with the row alone."""
    module: Any = make(replace(TINY, interaction="image-only"))
    module.positions.positional_encoding_gaussian_matrix.zero_()
    rows = torch.randn(2, 4, 1, 32).expand(-1, -1, 4, -1).flatten(1, 2)
    _, features = module(inputs[0], rows, (6, 10))
    assert features is not None
    torch.testing.assert_close(features, features[..., :1].expand_as(features))
    assert features.std(2).max() > 0.01


def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, heads: int = 4) -> Tensor:
    split = [proj(x).unflatten(-1, (heads, -1)).transpose(1, 2) for proj, x in
             ((module.q_proj, q), (module.k_proj, k), (module.v_proj, v))]  # fmt: skip
    return module.out_proj(functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


def released(module: Any, f: Tensor, v: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The specification's formulas, line by line."""
    body = module.transformer
    p = module.context_in(f)
    centres = (torch.arange(4) + 0.5) / 4 * 2 - 1
    grid = torch.stack([centres.expand(4, 4), centres[:, None].expand(4, 4)], -1)
    angles = 2 * torch.pi * grid @ module.positions.positional_encoding_gaussian_matrix
    pe = torch.cat([angles.sin(), angles.cos()], -1).flatten(0, 1)
    q, k = p, v
    for number, block in enumerate(body.layers):
        q = attend(block.self_attn, q, q, q) if number == 0 else q + attend(block.self_attn, q + p, q + p, q)
        q = block.norm1(q)
        q = block.norm2(q + attend(block.cross_attn_token_to_image, q + p, k + pe, k))
        q = block.norm3(q + block.mlp.lin2(block.mlp.lin1(q).relu()))
        k = block.norm4(k + attend(block.cross_attn_image_to_token, k + pe, q + p, q))
    if module.architecture.final_attention:
        q = body.norm_final_attn(q + attend(body.final_attn_token_to_image, q + p, k + pe, k))
    image = functional.interpolate(k.mT.unflatten(-1, (4, 4)), size, mode="bilinear")
    return f + 0.5 * module.context_out(q), module.features_out(image)


@pytest.mark.parametrize(("depth", "final"), [(2, True), (1, False)])
def test_it_follows_the_released_formulas(depth: int, final: bool, inputs: tuple[Tensor, Tensor], tolerance) -> None:
    module = make(replace(TINY, interaction_depth=depth, final_attention=final))
    for got, wanted in zip(module(*inputs, (6, 8)), released(module, *inputs, (6, 8)), strict=True):
        torch.testing.assert_close(got, wanted, **vars(tolerance(torch.float32)))
    assert final == any("final" in name for name in module.state_dict())


def test_patches_and_their_places_may_be_permuted_together(inputs: tuple[Tensor, Tensor]) -> None:
    module: Any = make()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    places = module.positions((4, 4)).flatten(1)
    read, seen = module.context_in(inputs[0]), inputs[1].mT
    said, kept = module.transformer(seen.unflatten(-1, (4, 4)), places.unflatten(-1, (4, 4))[None], read)
    said_too, moved = module.transformer(
        seen[..., order].unflatten(-1, (4, 4)), places[:, order].unflatten(-1, (4, 4))[None], read
    )
    torch.testing.assert_close(said, said_too, rtol=0, atol=1e-5)
    torch.testing.assert_close(kept[:, order], moved, rtol=0, atol=1e-5)


def test_inner_weights_learn_from_the_second_step_on(inputs: tuple[Tensor, Tensor]) -> None:
    module = make(stirred=False)

    def gradients() -> dict[str, bool]:
        module.zero_grad()
        context, features = module(*inputs, (8, 8))
        assert features is not None
        (context.square().sum() + (features - 1).square().sum()).backward()
        return {name: bool(each.grad is not None and each.grad.any()) for name, each in module.named_parameters()}

    first = gradients()
    assert {name for name, moves in first.items() if moves} == {
        f"{part}_out.{kind}" for part in ("context", "features") for kind in ("weight", "bias")
    }
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.sub_(0 if parameter.grad is None else 0.1 * parameter.grad)
    # The bias of a key moves all scores of a query alike, so it never learns anything.
    assert all(moves for name, moves in gradients().items() if not name.endswith("k_proj.bias"))


def test_the_picture_alone_may_look(inputs: tuple[Tensor, Tensor]) -> None:
    module = make(replace(TINY, interaction="image-only"))
    context, features = module(*inputs, (4, 4))
    assert torch.equal(context, inputs[0])
    assert features is not None and features.any()
    _, other = module(inputs[0] + 1, inputs[1], (4, 4))
    assert other is not None and not torch.allclose(features, other)


def test_the_fourier_matrix_is_part_of_the_state() -> None:
    assert make().state_dict()["positions.positional_encoding_gaussian_matrix"].shape == (2, 16)


@pytest.mark.parametrize("shape", [(2, 15, 32), (2, 16, 24)])
def test_features_of_another_model_are_refused(shape: tuple[int, ...], inputs: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ModelError, match=f"got {shape[1]} of width {shape[2]}"):
        make()(inputs[0], torch.zeros(shape), (8, 8))


def test_heads_must_divide_half_of_the_width() -> None:
    with pytest.raises(ValueError, match="must be a multiple of 2 x 4 heads, got 36"):
        Interaction(replace(TINY, interaction_width=36))
