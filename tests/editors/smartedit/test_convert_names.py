"""Names of the published SmartEdit weights, all of them, at the sizes of 7B and 13B."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from maskedit.editors.core.architectures import INSTRUCT_PIX2PIX
from maskedit.editors.smartedit.architecture import SmartEditArchitecture
from maskedit.editors.smartedit.convert_names import Published, Rows, places_of
from maskedit.editors.smartedit.interaction import Interaction
from maskedit.editors.smartedit.qformer import QFormer

Shapes = dict[str, tuple[int, ...]]
SIZES = {"7B": (4096, 32, 11008), "13B": (5120, 40, 13824)}
OLD, NEW, RANK = 32000, 35, 8


def published(width: int, layers: int, inner: int) -> dict[Published, Shapes]:
    """Names and shapes as they are in the files, written down from the published networks."""
    llama: Shapes = {"norm.weight": (width,)}
    language: Shapes = {}
    for i in range(layers):
        llama |= {f"layers.{i}.self_attn.{each}_proj.weight": (width, width) for each in "qkvo"}
        llama |= {f"layers.{i}.mlp.{each}_proj.weight": (inner, width) for each in ("gate", "up")}
        llama[f"layers.{i}.mlp.down_proj.weight"] = (width, inner)
        llama |= {f"layers.{i}.{each}_layernorm.weight": (width,) for each in ("input", "post_attention")}
        language[f"model.base_model.model.layers.{i}.self_attn.rotary_emb.inv_freq"] = (64,)
        for each in "qv":
            name = f"model.base_model.model.layers.{i}.self_attn.{each}_proj"
            language[f"{name}.lora_A.default.weight"] = (RANK, width)
            language[f"{name}.lora_B.default.weight"] = (width, RANK)
    language |= {f"model.base_model.model.{name}": shape for name, shape in llama.items()}
    language["model.base_model.model.embed_tokens.weight"] = (OLD + NEW, width)
    rows = (OLD + 3, width)
    llava = {"model.embed_tokens.weight": rows, "lm_head.weight": rows}
    llava |= {"model.mm_projector.weight": (width, 1024), "model.mm_projector.bias": (width,)}
    return {
        "llava": llava | {f"model.{name}": shape for name, shape in llama.items()},
        "language": language,
        "reader": bert(width),
        "interaction": bim(),
        "unet": {f"unet.{name}": shape for name, shape in unet().items()},
    }


def bert(width: int) -> Shapes:
    """The file of the QFormer."""
    found: Shapes = {"mm_projector.weight": (width, 1024), "mm_projector.bias": (width,)}
    found |= {"lm_head.weight": (OLD + NEW, width), "sd_query_tokens": (1, 77, 768)}
    found |= {f"sd_qformer.embeddings.LayerNorm.{each}": (768,) for each in ("weight", "bias")}
    found["sd_qformer.embeddings.position_ids"] = (1, 512)
    for i in range(6):
        layer = f"sd_qformer.encoder.layer.{i}"
        linears = {"intermediate_query.dense": (3072, 768), "output_query.dense": (768, 3072)}
        for kind, keys in (("attention", 768), ("crossattention", width))[: 1 + (i % 2 == 0)]:
            linears |= {f"{kind}.self.query": (768, 768), f"{kind}.output.dense": (768, 768)}
            linears |= {f"{kind}.self.{each}": (768, keys) for each in ("key", "value")}
            found |= {f"{layer}.{kind}.output.LayerNorm.{each}": (768,) for each in ("weight", "bias")}
        found |= {f"{layer}.output_query.LayerNorm.{each}": (768,) for each in ("weight", "bias")}
        for name, shape in linears.items():
            found |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    return found


def bim() -> Shapes:
    """The file of the interaction module."""
    linears: Shapes = {"modulate_head": (1024, 768), "dimension_reduction_head_qformer_out": (768, 1024)}
    linears["dimension_reduction_head_zeroconv"] = (320, 1024, 1, 1)
    norms = ["norm_final_attn"]
    attentions = {"final_attn_token_to_image": 512}
    for i in range(2):
        attentions |= {f"layers.{i}.self_attn": 1024, f"layers.{i}.cross_attn_token_to_image": 512}
        attentions[f"layers.{i}.cross_attn_image_to_token"] = 512
        linears[f"modulate_transformer.layers.{i}.mlp.lin1"] = (2048, 1024)
        linears[f"modulate_transformer.layers.{i}.mlp.lin2"] = (1024, 2048)
        norms += [f"layers.{i}.norm{n}" for n in (1, 2, 3, 4)]
    for name, inner in attentions.items():
        linears |= {f"modulate_transformer.{name}.{each}_proj": (inner, 1024) for each in "qkv"}
        linears[f"modulate_transformer.{name}.out_proj"] = (1024, inner)
    found: Shapes = {"pe_layer.positional_encoding_gaussian_matrix": (2, 512)}
    found |= {f"modulate_transformer.{name}.{each}": (1024,) for name in norms for each in ("weight", "bias")}
    for name, shape in linears.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


def unet() -> Shapes:
    with torch.device("meta"):
        return shapes_of(UNet2DConditionModel(**INSTRUCT_PIX2PIX.unet).state_dict())


def shapes_of(tensors: Mapping[str, Any]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def ours(width: int, layers: int, inner: int) -> dict[str, Shapes]:
    """Names and shapes of the full-size networks that load what is converted, by the folder they are in."""
    text = LlamaConfig(
        vocab_size=OLD,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 128,
    )
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14
    )
    architecture = SmartEditArchitecture()
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision))
        parts = {"qformer": QFormer(architecture, width), "interaction": Interaction(architecture)}
    smartedit = {
        f"{part}.{name}": shape for part, net in parts.items() for name, shape in shapes_of(net.state_dict()).items()
    }
    smartedit |= {"new_inputs": (NEW, width), "new_outputs": (NEW, width)}
    adapter = {
        f"base_model.model.layers.{i}.self_attn.{each}_proj.lora_{side}.weight": shape
        for i in range(layers)
        for each in "qv"
        for side, shape in (("A", (RANK, width)), ("B", (width, RANK)))
    }
    return {"mllm": shapes_of(llava.state_dict()), "adapter": adapter, "smartedit": smartedit, "unet": unet()}


def cut(shape: tuple[int, ...], rows: Rows) -> tuple[int, ...]:
    return {"all": shape, "old": (OLD, *shape[1:]), "new": (NEW, *shape[1:])}[rows]


@pytest.mark.parametrize("size", SIZES)
def test_every_published_name_finds_its_place_and_every_place_is_filled(size: str) -> None:
    wanted = ours(*SIZES[size])
    found: dict[str, dict[str, set[tuple[int, ...]]]] = {part: {} for part in wanted}
    for source, tensors in published(*SIZES[size]).items():
        for name, shape in tensors.items():
            places = places_of(source, name)
            assert places is not None, f"{source}: {name}"
            for place in places:
                found[place.part].setdefault(place.name, set()).add(cut(shape, place.rows))
    # CLIP is loaded by itself, and the second layer of the projector is no layer of theirs.
    wanted["mllm"] = {
        name: shape
        for name, shape in wanted["mllm"].items()
        if not name.startswith(("model.vision_tower.", "model.multi_modal_projector.linear_2."))
    }
    assert found == {part: {name: {shape} for name, shape in shapes.items()} for part, shapes in wanted.items()}


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ("7B", {"llava": 293, "language": 450, "reader": 133, "unet": 686, "interaction": 89}),
        ("13B", {"llava": 365, "language": 562, "reader": 133, "unet": 686, "interaction": 89}),
    ],
)
def test_there_are_as_many_names_as_the_release_says(size: str, counts: dict[str, int]) -> None:
    # The published training script notes 133, 686 and 450 of them for 7B.
    assert {source: len(tensors) for source, tensors in published(*SIZES[size]).items()} == counts


def test_other_spellings_of_the_same_weights() -> None:
    name = "model.base_model.model.layers.3.self_attn.q_proj"
    for plain, other in ((".weight", ".base_layer.weight"), (".lora_A.default.weight", ".lora_A.weight")):
        assert places_of("language", name + plain) == places_of("language", name + other) != ()
    assert places_of("llava", "mm_projector.bias") == places_of("llava", "model.mm_projector.bias")
    assert places_of("llava", "model.rotary_emb.inv_freq") == ()
    assert places_of("llava", "model.vision_tower.vision_tower.vision_model.post_layernorm.bias") == ()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("language", "model.base_model.model.layers.0.self_attn.q_proj.lora_magnitude"),
        ("language", "model.layers.0.self_attn.q_proj.weight"),
        ("llava", "model.layers.0.self_attn.q_proj.bias"),
        ("reader", "sd_qformer.encoder.layer.0.output.dense.weight"),
        ("reader", "llm_proj.weight"),
        ("interaction", "unet.conv_in.weight"),
        ("unet", "conv_in.weight"),
    ],
)
def test_names_that_nobody_knows(source: Published, name: str) -> None:
    assert places_of(source, name) is None
