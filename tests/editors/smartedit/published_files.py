"""A tiny SmartEdit in the layout in which the real one is published, with the LLaVA, CLIP and base it stands on."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from maskedit.editors.core.checkpoint import BackboneConfig
from maskedit.editors.core.loading import quiet_loading
from maskedit.editors.smartedit.architecture import SmartEditArchitecture
from maskedit.editors.smartedit.files import assemble
from maskedit.editors.smartedit.mllm import Mllm, PictureForm
from maskedit.editors.smartedit.model import SmartEditModel

CPU = BackboneConfig(device="cpu")
ROWS, WIDTH, LAYERS = 264, 48, 2
TINY = SmartEditArchitecture(
    queries=5,
    context_width=24,
    qformer_layers=3,
    qformer_intermediate=40,
    interaction_width=32,
    interaction_mlp=36,
    unet_width=16,
)
"""Numbers of heads and of image tokens are the released ones, since no file tells them."""
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """Folders as a user has them, and the networks that were written into them."""

    release: Path
    llava: Path
    clip: Path
    base: Path
    model: SmartEditModel
    unet: UNet2DConditionModel

    def flags(self, output: Path) -> list[object]:
        """What the command line is told."""
        folders = ["--release", self.release, "--llava", self.llava, "--clip", self.clip, "--base", self.base]
        return ["convert", "smartedit", *folders, "--output", output]


def publish(folder: Path, *, learn: int = 0) -> PublishedSet:
    """Write a tiny random SmartEdit as the real one is published.

    Args:
        folder: where to.
        learn: steps for which it first learns to say its image tokens.
    """
    with torch.random.fork_rng(devices=[]), quiet_loading():
        torch.manual_seed(0)
        clip, llava, tokenizer = make_clip(), make_llava(), make_tokenizer()
        llava.model.vision_tower.load_state_dict(clip.vision_model.state_dict())
        own = {name: each.clone() for name, each in llava.state_dict().items()}
        mllm = Mllm(llava, tokenizer, PictureForm(size=32, mean=MEAN, std=STD), image_tokens=TINY.image_tokens)
        model = assemble(mllm, TINY, CPU)
        stir(model)
        if learn:
            teach(model, learn)
        unet = make_unet()
        write_clip(folder / "clip", clip)
        write_llava(folder / "llava", own, tokenizer)
        write_base(folder / "base", unet)
        write_release(folder / "release", model, unet)
    places = {name: folder / name for name in ("release", "llava", "clip", "base")}
    return PublishedSet(**places, model=model, unet=unet)


def make_clip() -> Any:
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    vision = {**layers, "image_size": 32, "patch_size": 8}
    return CLIPModel(
        CLIPConfig(text_config={**layers, "vocab_size": 99}, vision_config=vision, projection_dim=16)
    ).eval()


def make_llava() -> Any:
    text = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.1,
    )
    # One linear layer, as in LLaVA-1.1.
    config = LlavaConfig(
        text_config=text, vision_config=make_clip().config.vision_config, projector_hidden_act="linear"
    )
    llava = LlavaForConditionalGeneration(config).eval()
    second = llava.model.multi_modal_projector.linear_2
    with torch.no_grad():
        second.weight.copy_(torch.eye(WIDTH))
        second.bias.zero_()
    return llava


def make_tokenizer() -> Any:
    words = ["<s>", "</s>", *sorted(ByteLevel.alphabet())]
    inner = Tokenizer(BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TINY.context_width,
        norm_num_groups=8,
    )


@torch.no_grad()
def stir(model: SmartEditModel) -> None:
    """Move all that training moves, so that nothing is zero any more."""
    for parameter in model.trainable("2b").values():
        parameter.add_(0.05 * torch.randn(parameter.shape))
    model.requires_grad_(False)


def teach(model: SmartEditModel, steps: int) -> None:
    """Let the new tokens learn to be said, on noise and a few instructions."""
    from maskedit.editors.smartedit.conversation import edit_conversation

    learned = [each for name, each in model.trainable("2a").items() if name.startswith("mllm.")]
    optimizer = torch.optim.Adam(learned, lr=0.03)
    talk = [edit_conversation(model.mllm.tokenizer, "make it red", labels="image tokens")]
    for _ in range(steps):
        optimizer.zero_grad()
        model.mllm.read(talk, model.mllm.look(torch.rand(1, 3, 32, 32))).loss.sum().backward()
        optimizer.step()
    model.requires_grad_(False)


def write_clip(folder: Path, clip: Any) -> None:
    clip.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size=size, crop_size=size, image_mean=list(MEAN), image_std=list(STD)).save_pretrained(folder)


def write_llava(folder: Path, own: dict[str, Tensor], tokenizer: Any) -> None:
    """LLaMA layout in two files that torch saved, with three rows more than the language model uses."""
    tensors: dict[str, Tensor] = {}
    for name, each in own.items():
        if name.startswith("model.language_model."):
            tensors[name.replace("model.language_model.", "model.")] = each
    for name, each in (("model.embed_tokens.weight", own["model.language_model.embed_tokens.weight"]),):
        tensors[name] = torch.cat([each, torch.randn(3, WIDTH)])
    tensors["lm_head.weight"] = torch.cat([own["lm_head.weight"], torch.randn(3, WIDTH)])
    for each in ("weight", "bias"):
        tensors[f"model.mm_projector.{each}"] = own[f"model.multi_modal_projector.linear_1.{each}"]
    tensors |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.rand(6) for i in range(LAYERS)}
    folder.mkdir(parents=True)
    names, places = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save({name: tensors[name].clone() for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config = {
        "model_type": "llava",
        "architectures": ["LlavaLlamaForCausalLM"],
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "vocab_size": ROWS + 3,
        "mm_vision_select_layer": -2,
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)


def write_base(folder: Path, unet: UNet2DConditionModel) -> None:
    """Of the base only the configuration of its UNet, of 4 channels, is read."""
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    unet.save_config(folder / "unet")
    stored = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**stored, "in_channels": 4}))


def write_release(folder: Path, model: SmartEditModel, unet: UNet2DConditionModel, *, steps: int = 15) -> None:
    """The four files, in their names."""
    files = published_tensors(model, unet)
    places = {
        "language": f"LLM-{steps}/adapter_model.bin",
        "reader": f"embeddings_qformer/checkpoint-{steps}_embeddings_qformer.bin",
        "unet": f"unet-{steps}/adapter_model.bin",
        "interaction": f"modulate-{steps}/adapter_model.bin",
    }
    for name, place in places.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        torch.save(files[name], folder / place)
    options = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(options))


def published_tensors(model: SmartEditModel, unet: UNet2DConditionModel) -> dict[str, dict[str, Tensor]]:
    """All weights by the published names."""
    stored = {name: each.detach().clone() for name, each in model.state_dict().items()}
    language: dict[str, Tensor] = {}
    inside = "mllm.llava.model.language_model.base_model.model."
    for name, each in stored.items():
        if name.startswith(inside):
            # The release was saved by a peft that had no inner name for what it adapts.
            language["model.base_model.model." + name.removeprefix(inside).replace(".base_layer.", ".")] = each
    embedding = "model.base_model.model.embed_tokens.weight"
    language[embedding] = torch.cat([language[embedding], stored["mllm.new_inputs"]])
    for i in range(LAYERS):
        language[f"model.base_model.model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.rand(6)
    projector = "mllm.llava.model.multi_modal_projector.linear_1"
    reader = {f"mm_projector.{each}": stored[f"{projector}.{each}"] for each in ("weight", "bias")}
    reader["lm_head.weight"] = torch.cat([stored["mllm.llava.lm_head.weight"], stored["mllm.new_outputs"]])
    reader["sd_query_tokens"] = stored["qformer.queries"]
    reader["sd_qformer.embeddings.position_ids"] = torch.arange(512)[None]
    for name, each in model.qformer.layers.state_dict().items():
        bert = re.sub(r"attention\.attention\.", "attention.self.", name).replace("layernorm.", "embeddings.LayerNorm.")
        reader[f"sd_qformer.{bert}"] = each.clone()
    heads = {
        "context_in": "modulate_head",
        "transformer": "modulate_transformer",
        "positions": "pe_layer",
        "features_out": "dimension_reduction_head_zeroconv",
        "context_out": "dimension_reduction_head_qformer_out",
    }
    interaction = {}
    for name, each in model.interaction.state_dict().items():
        head, _, rest = name.partition(".")
        interaction[f"{heads[head]}.{rest}"] = each.clone()
    painter = {f"unet.{name}": each.clone() for name, each in unet.state_dict().items()}
    return {"language": language, "reader": reader, "unet": painter, "interaction": interaction}
