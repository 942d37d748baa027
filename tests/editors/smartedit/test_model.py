"""All before the UNet: what each stage learns, what a fresh model does, and the sizes of the published ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.checkpoint import BackboneConfig
from maskedit.editors.core.errors import ModelError
from maskedit.editors.smartedit.architecture import SmartEditArchitecture
from maskedit.editors.smartedit.conversation import (
    VICUNA,
    caption_conversation,
    edit_conversation,
    talk_conversation,
)
from maskedit.editors.smartedit.files import assemble, load_smartedit
from maskedit.editors.smartedit.mllm import Mllm, PictureForm
from maskedit.editors.smartedit.model import Reading, SmartEditModel

from .conftest import TINY, make_llava, make_tokenizer, stir

CPU = BackboneConfig(device="cpu")
FORM = PictureForm(size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
PICTURES = torch.rand((2, 3, 64, 80), generator=torch.Generator().manual_seed(0))
TEXTS = ("make it red", "remove the larger sphere")


def test_a_fresh_model_adds_nothing_to_what_was_read(smartedit: SmartEditModel, smartedit_folder: Path) -> None:
    reading = smartedit.read(PICTURES, TEXTS)
    assert reading.contexts.shape == (2, 7, 32) and reading.talk_loss.shape == (2,)
    context, features = smartedit.condition(reading, (16, 20))
    assert torch.equal(context, reading.contexts)
    assert features is not None and features.shape == (2, 16, 16, 20) and not features.any()
    backbone = Backbone.load(replace(CPU, model=str(smartedit_folder)), "smartedit")
    latents = torch.randn(2, 4, 16, 20)
    without = backbone.lay_out({"text": context}, {"text": latents}, batch=2)
    with_them = backbone.lay_out({"text": context}, {"text": latents}, batch=2, features={"text": features})
    noise_pred = [backbone.predict(latents, torch.tensor(500), each)["text"] for each in (without, with_them)]
    assert torch.equal(*noise_pred)


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (32, 40)])
def test_a_stirred_model_gives_features_of_any_size(smartedit_folder: Path, size: tuple[int, int]) -> None:
    model = load_smartedit(smartedit_folder, CPU)
    reading = model.read(PICTURES, TEXTS)
    context, features = model.condition(reading, size)
    assert not torch.equal(context, reading.contexts)
    assert features is not None and features.shape[-2:] == size and features.any()


def test_each_stage_learns_its_part_and_freezes_the_rest(smartedit: SmartEditModel) -> None:
    rows = {"mllm.new_inputs", "mllm.new_outputs"}
    first, second, third = (smartedit.trainable(stage) for stage in ("1", "2a", "2b"))
    assert {name for name in first if not name.startswith("qformer.")} == rows
    assert {name.split(".")[0] for name in second} == {"mllm", "qformer"}
    assert {name for name in second.keys() - first.keys() if ".lora_" not in name} == set()
    assert {name.split(".")[0] for name in third.keys() - second.keys()} == {"interaction"}
    assert {name for name, each in smartedit.named_parameters() if each.requires_grad} == set(third)
    assert not any(each.requires_grad for name, each in smartedit.named_parameters() if name not in third)
    assert len(smartedit.trainable("1")) == len([1 for each in smartedit.parameters() if each.requires_grad])


@pytest.mark.parametrize("stage", ["1", "2a", "2b"])
def test_all_that_a_stage_trains_gets_gradients(smartedit: SmartEditModel, stage: Any) -> None:
    stir(smartedit)
    learned, tokenizer = smartedit.trainable(stage), smartedit.mllm.tokenizer
    if stage == "1":
        reading = smartedit.read_conversations([caption_conversation(tokenizer, "a red cube")], None)
        conditions = [reading.contexts]
    else:
        reading = smartedit.read(PICTURES, TEXTS)
        conditions = [each for each in smartedit.condition(reading, (8, 8)) if each is not None]
    (sum(each.square().mean() for each in conditions) + reading.talk_loss.mean()).backward()
    # The bias of a key moves all scores of a query alike, so it never learns anything.
    still = {n for n, each in learned.items() if each.grad is None or not each.grad.any()}
    assert not {name for name in still if not name.endswith(("k_proj.bias", "key.bias"))}


def test_edits_and_talks_go_through_together(smartedit: SmartEditModel) -> None:
    stir(smartedit)
    tokenizer, v = smartedit.mllm.tokenizer, smartedit.look(PICTURES)
    edit, talk = edit_conversation(tokenizer, "red"), talk_conversation(tokenizer, "what?", "a cube")
    both = smartedit.read_conversations([edit, talk], v)
    alone = smartedit.read_conversations([edit], v[:1])
    torch.testing.assert_close(both.contexts[:1], alone.contexts, rtol=0, atol=1e-5)
    torch.testing.assert_close(both.talk_loss[:1], alone.talk_loss, rtol=0, atol=1e-5)


def test_a_caption_has_no_features(smartedit: SmartEditModel) -> None:
    reading = smartedit.read_conversations([caption_conversation(smartedit.mllm.tokenizer, "a cube")], None)
    with pytest.raises(ModelError, match="got one of a text alone"):
        smartedit.condition(reading, (8, 8))


def test_without_interaction_any_features_will_do() -> None:
    mllm = Mllm(make_llava(), make_tokenizer(), FORM, image_tokens=4)
    with pytest.raises(ModelError, match="have width 64, got 32"):
        assemble(mllm, replace(TINY, interaction_width=64), CPU)
    model = assemble(mllm, replace(TINY, interaction_width=64, interaction="none"), CPU)
    reading = model.read(PICTURES, TEXTS)
    context, features = model.condition(reading, (8, 8))
    assert features is None and torch.equal(context, reading.contexts)


# Counted by hand from the widths in the papers; LLaMA's own papers say 6.7 B and 13.0 B.
PUBLISHED = {
    "7B": {
        "sizes": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
        "counts": {
            "vision tower": 303_179_776,
            "projector": 4_198_400 + 4096 * 4097,
            "language model": 6_738_415_616,
            "adapter": 32 * 2 * 8 * (4096 + 4096),
            "new tokens": 2 * 35 * 4096,
            "qformer": 65_015_040,
            "interaction": 29_211_200,
        },
    },
    "13B": {
        "sizes": {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
        "counts": {
            "vision tower": 303_179_776,
            "projector": 5_248_000 + 5120 * 5121,
            "language model": 13_015_864_320,
            "adapter": 40 * 2 * 8 * (5120 + 5120),
            "new tokens": 2 * 35 * 5120,
            "qformer": 69_733_632,
            "interaction": 29_211_200,
        },
    },
}


def full_size(sizes: dict[str, int]) -> SmartEditModel:
    """The published architecture without any memory; LLaVA's linear projector is a first layer before an identity."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
            projection_dim=768,
        ),
        text_config=LlamaConfig(vocab_size=32000, max_position_embeddings=2048, **sizes),
        projector_hidden_act="linear",
    )
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(config)
        mllm = Mllm(llava, make_tokenizer(), replace(FORM, size=224), image_tokens=32, style=VICUNA)
        return assemble(mllm, SmartEditArchitecture(), BackboneConfig(device="meta"))


@pytest.mark.parametrize("size", ["7B", "13B"])
def test_the_published_sizes(size: str) -> None:
    model = full_size(PUBLISHED[size]["sizes"])
    assert model.count_parameters() == PUBLISHED[size]["counts"]
    assert sum(model.count_parameters().values()) == sum(each.numel() for each in model.parameters())
    assert model.mllm.tokenizer.new_tokens[-1] == "<img_31>" and model.mllm.tokenizer.image_ids[-1] == 32034
    assert {each.device.type for each in model.parameters()} == {"meta"}
    v = model.look(torch.zeros(1, 3, 256, 320))
    assert v.shape == (1, 256, 1024)
    # transformers asks a mask for its values, so the language model itself cannot run without any.
    contexts = model.qformer(torch.empty(1, 32, model.mllm.llm_width, device="meta"))
    reading = Reading(contexts=contexts, v=v, talk_loss=torch.empty(1, device="meta"))
    context, features = model.condition(reading, (32, 40))
    assert context.shape == (1, 77, 768)
    assert features is not None and features.shape == (1, 320, 32, 40)
