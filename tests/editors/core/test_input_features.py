"""Features behind the first convolution: they act there and nowhere else, and leave no trace."""

import copy

import pytest
import torch

from maskedit.editors import ModelError
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.input_features import add_input_features, prepare_input_features

TIMES = torch.tensor([500.0])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def width(backbone: Backbone) -> int:
    return backbone.unet.conv_in.out_channels


def run(backbone: Backbone, latents: torch.Tensor) -> torch.Tensor:
    return backbone.unet(latents, TIMES, backbone.embed(["make it red"]), return_dict=False)[0]


@torch.no_grad()
def test_they_equal_the_same_tensor_added_to_the_output_of_the_convolution(backbone: Backbone) -> None:
    latents, features = draw(1, 8, 16, 16), draw(1, width(backbone), 16, 16, seed=1)
    with add_input_features(backbone.unet, features):
        added = run(backbone, latents)
    own = copy.deepcopy(backbone.unet)
    own.conv_in.bias.zero_()
    own.conv_in.weight.zero_()
    own.conv_in.register_forward_hook(lambda *_: backbone.unet.conv_in(latents) + features)
    expected = own(draw(1, 8, 16, 16, seed=2), TIMES, backbone.embed(["make it red"]), return_dict=False)[0]
    torch.testing.assert_close(added, expected)
    assert not torch.allclose(added, run(backbone, latents))


@torch.no_grad()
def test_zeros_are_the_same_as_none_bit_for_bit(backbone: Backbone) -> None:
    latents = draw(1, 8, 16, 16)
    plain = run(backbone, latents)
    with add_input_features(backbone.unet, torch.zeros(1, width(backbone), 16, 16)):
        assert torch.equal(run(backbone, latents), plain)
    with add_input_features(backbone.unet, None):
        assert torch.equal(run(backbone, latents), plain)


@torch.no_grad()
def test_nothing_stays_behind_even_after_an_error(backbone: Backbone) -> None:
    latents = draw(1, 8, 16, 16)
    plain = run(backbone, latents)
    with pytest.raises(RuntimeError, match="stop"), add_input_features(backbone.unet, draw(1, width(backbone), 16, 16)):
        raise RuntimeError("stop")
    assert torch.equal(run(backbone, latents), plain)


@torch.no_grad()
def test_those_of_an_inner_block_stand_in_for_the_outer_ones_for_its_length(backbone: Backbone) -> None:
    latents, outer, inner = draw(1, 8, 16, 16), *(draw(1, width(backbone), 16, 16, seed=seed) for seed in (1, 2))
    plain = run(backbone, latents)
    with add_input_features(backbone.unet, inner):
        expected = run(backbone, latents)
    with add_input_features(backbone.unet, outer):
        before = run(backbone, latents)
        with add_input_features(backbone.unet, inner):
            assert torch.equal(run(backbone, latents), expected)
        with add_input_features(backbone.unet, None):
            assert torch.equal(run(backbone, latents), plain)
        assert torch.equal(run(backbone, latents), before)
    assert not torch.equal(before, expected)


def test_the_wrong_shape_is_refused(backbone: Backbone) -> None:
    with (
        pytest.raises(ModelError, match=r"expected input features of shape \(1, \d+, 16, 16\), got \(1, 3, 8, 8\)"),
        add_input_features(backbone.unet, torch.zeros(1, 3, 8, 8)),
    ):
        run(backbone, draw(1, 8, 16, 16))


def test_a_unet_is_prepared_once_and_its_copy_has_features_of_its_own(backbone: Backbone) -> None:
    adder = prepare_input_features(backbone.unet)
    assert prepare_input_features(backbone.unet) is adder
    twin = copy.deepcopy(backbone.unet)
    assert prepare_input_features(twin) is not adder


def test_gradients_reach_the_features(backbone: Backbone) -> None:
    features = torch.zeros(1, width(backbone), 16, 16, requires_grad=True)
    with add_input_features(backbone.unet, features):
        run(backbone, draw(1, 8, 16, 16)).square().mean().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


@torch.no_grad()
def test_a_run_gives_each_branch_its_own(backbone: Backbone) -> None:
    latents, features = draw(2, 4, 16, 16), draw(2, width(backbone), 16, 16, seed=1)
    text, image = backbone.embed(["make it red"]), draw(2, 4, 16, 16, seed=3)
    texts, channels = {"text": text, "image": text}, {"text": image, "image": image}
    both = {"text": features, "image": torch.zeros(1, width(backbone), 1, 1).expand(1, -1, 16, 16)}
    laid = backbone.lay_out(texts, channels, batch=2, features=both)
    found = backbone.predict(latents, TIMES, laid)
    plain = backbone.predict(latents, TIMES, backbone.lay_out(texts, channels, batch=2))
    torch.testing.assert_close(found["image"], plain["image"])
    assert not torch.allclose(found["text"], plain["text"])
