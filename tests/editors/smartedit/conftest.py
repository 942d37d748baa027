"""A tiny random LLaVA of the real classes, and a tiny SmartEdit checkpoint on it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors.core.checkpoint import BackboneConfig
from maskedit.editors.smartedit.architecture import SmartEditArchitecture
from maskedit.editors.smartedit.conversation import PLAIN
from maskedit.editors.smartedit.files import begin_smartedit, save_smartedit
from maskedit.editors.smartedit.model import SmartEditModel

TINY = SmartEditArchitecture(
    image_tokens=4,
    queries=7,
    context_width=32,
    qformer_layers=3,
    qformer_heads=4,
    qformer_intermediate=64,
    interaction_width=32,
    interaction_heads=4,
    interaction_mlp=64,
    unet_width=16,
)
"""Fits the tiny UNet of `ip2p_folder` and the LLaVA of `llava_folder`."""


def make_tokenizer() -> Any:
    """Each byte is a token; there is a beginning and an end, and no token for a picture."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", *sorted(ByteLevel.alphabet())]
    inner = Tokenizer(BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    inner.pre_tokenizer, inner.decoder = ByteLevel(add_prefix_space=False), Decoder()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def make_llava(*, seed: int = 0) -> Any:
    """Pictures of 32 pixels in 4 x 4 patches of width 32; 2 layers of width 48 with more rows than the tokenizer."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            projection_dim=16,
        ),
        text_config=LlamaConfig(
            vocab_size=264,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
        ),
        image_token_index=263,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(config).eval()


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny LLaVA on disk; do not write into it."""
    from transformers import CLIPImageProcessor

    from maskedit.editors.core.loading import quiet_loading

    folder = tmp_path_factory.mktemp("llava")
    with quiet_loading():
        make_llava().save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        CLIPImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def smartedit(llava_folder: Path) -> SmartEditModel:
    """A model that has learned nothing, for one test; its LoRA and its interaction change nothing yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return begin_smartedit(str(llava_folder), BackboneConfig(device="cpu"), TINY, style=PLAIN)


@pytest.fixture
def learnable(llava_folder: Path) -> SmartEditModel:
    """A model whose context is as long as the text of `ip2p_folder`, every part of it stirred, for one test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        sizes = replace(TINY, queries=77)
        model = begin_smartedit(str(llava_folder), BackboneConfig(device="cpu"), sizes, style=PLAIN)
        stir(model)
    return model


@pytest.fixture(scope="session")
def smartedit_folder(ip2p_folder: Path, llava_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SmartEdit on disk with its own LLaVA, on the tiny InstructPix2Pix; every part of it was stirred."""
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = begin_smartedit(str(llava_folder), BackboneConfig(device="cpu"), TINY, style=PLAIN)
        stir(model)
    unet = UNet2DConditionModel.from_pretrained(str(ip2p_folder), subfolder="unet")
    folder = tmp_path_factory.mktemp("smartedit")
    return save_smartedit(model, unet, folder, base=str(ip2p_folder), whole=True)


@torch.no_grad()
def stir(model: SmartEditModel) -> None:
    """Move all that training moves, so that nothing is zero any more."""
    for parameter in model.trainable("2b").values():
        parameter.add_(0.05 * torch.randn(parameter.shape))
    model.requires_grad_(False)
