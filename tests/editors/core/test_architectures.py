"""The published architectures have the size and the attention layers the papers speak of; nothing is allocated."""

import resource

import pytest
import torch

from maskedit.editors.core.architectures import INSTRUCT_PIX2PIX, STABLE_DIFFUSION_15
from maskedit.editors.core.attention import attention_sites
from maskedit.editors.core.backbone import Backbone


@pytest.fixture(scope="module")
def published() -> Backbone:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    backbone = Backbone.build(INSTRUCT_PIX2PIX, device="meta")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    # In float32 its weights would be 4 GB.
    assert grown < 200
    return backbone


def size_of(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_numbers_of_parameters(published: Backbone) -> None:
    assert size_of(published.unet) == 859_532_484
    assert size_of(published.vae) == 83_653_863
    assert size_of(published.text_encoder) == 123_060_480


def test_nothing_is_allocated(published: Backbone) -> None:
    for network in (published.unet, published.vae, published.text_encoder):
        assert {p.device.type for p in network.parameters()} == {"meta"}
    assert published.device.type == "meta"


def test_the_unet_has_16_cross_attention_layers(published: Backbone) -> None:
    """2 down and 3 up at each of 64, 32 and 16, and one in the middle."""
    sites = [site for site in attention_sites(published.unet) if site.kind == "cross"]
    assert [site.stage for site in sites] == ["down"] * 6 + ["mid"] + ["up"] * 9
    blocks = [".".join(site.name.split(".")[:2]) for site in sites if site.stage != "mid"]
    assert {block: blocks.count(block) for block in dict.fromkeys(blocks)} == {
        "down_blocks.0": 2,
        "down_blocks.1": 2,
        "down_blocks.2": 2,
        "up_blocks.1": 3,
        "up_blocks.2": 3,
        "up_blocks.3": 3,
    }


def test_sizes_of_the_published_checkpoints(published: Backbone) -> None:
    assert (published.native_size, published.vae_scale_factor, published.latent_channels) == (512, 8, 4)
    published.require("instruct-pix2pix", "ip2p")


def test_stable_diffusion_differs_in_its_input_only() -> None:
    ours, theirs = dict(INSTRUCT_PIX2PIX.unet), dict(STABLE_DIFFUSION_15.unet)
    assert (ours.pop("in_channels"), theirs.pop("in_channels")) == (8, 4)
    assert ours == theirs
