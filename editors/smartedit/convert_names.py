r"""Where each tensor of the published SmartEdit weights goes: a pure function of its file and its name.

The published folder of N training steps, with W the width of the language model (4096 at 7B, 5120 at 13B), L its layers
(32, 40), V = 32035 its rows (32000 old ones, then `<img>`, `<im_start>`, `<im_end>` and `<img_0>` to `<img_31>`):

| file | names | shapes | goes to |
|---|---|---|---|
| language, 450 | model.base_model.model.embed_tokens.weight | V x W | old rows: compared; new: new_inputs |
| | ...norm, layers.i.{self_attn,mlp}.*_proj, layers.i.*_layernorm | | compared with LLaVA |
| | ...layers.i.self_attn.{q,v}_proj.lora_{A,B}.default | 8 x W, W x 8 | adapter/ |
| | ...layers.i.self_attn.rotary_emb.inv_freq | 64 | computed anew |
| reader, 133 | mm_projector.{weight,bias} | W x 1024, W | compared with LLaVA |
| | lm_head.weight | V x W | old rows: compared; new: new_outputs |
| | sd_query_tokens | 1 x 77 x 768 | qformer |
| | sd_qformer.embeddings.{LayerNorm.*, position_ids} | 768; 1 x 512 | qformer; not needed |
| | sd_qformer.encoder.layer.j.* (6 layers, BERT names) | 768, 3072; keys W x 768 | qformer |
| unet, 686 | unet.* | Stable Diffusion 1.5, conv_in of 8 channels | unet/ |
| interaction, 89 | modulate_head.*, modulate_transformer.* | 1024 x 768; 1024, 512, 2048 | interaction |
| | pe_layer.positional_encoding_gaussian_matrix | 2 x 512 | interaction |
| | dimension_reduction_head_{zeroconv,qformer_out}.* | 320 x 1024 x 1 x 1; 768 x 1024 | interaction |

language is LLM-N/adapter_model.bin (562 names at 13B), reader embeddings_qformer/checkpoint-N_embeddings_qformer.bin,
unet unet-N/adapter_model.bin, interaction modulate-N/adapter_model.bin; adapter_config.json lies beside them.
LLaVA-1.1 is a folder of LLaMA layout whose embedding and head have 32003 rows, of which the last 3 are its own and are
not used (Vicuna's have 32000): model.embed_tokens, model.layers.i, model.norm, model.mm_projector, lm_head.

Source: TencentARC/SmartEdit, commit a83a699: model/DS_SmartEdit_model.py, train/DS_SmartEdit_train.py (what is saved).
"""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Published: TypeAlias = Literal["llava", "clip", "language", "reader", "unet", "interaction"]
"""LLaVA and CLIP, which the published weights stand on, then their files in the order of the table."""
Part: TypeAlias = Literal["mllm", "adapter", "unet", "smartedit"]
"""A folder of our checkpoint."""
Rows: TypeAlias = Literal["all", "old", "new"]
"""Which rows of a tensor: those of old tokens, or those of new ones."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor, or some rows of it, belongs."""

    part: Part
    name: str
    rows: Rows = "all"


@dataclass(frozen=True)
class _Rule:
    """Names that a pattern matches as a whole, and where they go; nowhere = they are not needed."""

    pattern: str
    places: tuple[tuple[Part, str, Rows], ...] = ()


_LLM, _HEAD, _PROJECTOR = "model.language_model.", "lm_head.weight", "model.multi_modal_projector.linear_1."
NEW_INPUTS, NEW_OUTPUTS = "new_inputs", "new_outputs"
_RULES: dict[Published, tuple[_Rule, ...]] = {
    "language": (
        _Rule(
            r"model\.base_model\.model\.(layers\.\d+\.self_attn\.\w+)\.lora_([AB])(?:\.default)?\.weight",
            (("adapter", r"base_model.model.\1.lora_\2.weight", "all"),),
        ),
        _Rule(
            r"model\.base_model\.model\.embed_tokens\.weight",
            (("mllm", f"{_LLM}embed_tokens.weight", "old"), ("smartedit", NEW_INPUTS, "new")),
        ),
        _Rule(r"model\.base_model\.model\.(?:.*\.)?rotary_emb\.inv_freq"),
        _Rule(
            r"model\.base_model\.model\.((?:layers\.\d+\.\w+(?:\.\w+_proj)?)|norm)(?:\.base_layer)?\.weight",
            (("mllm", rf"{_LLM}\1.weight", "all"),),
        ),
    ),
    "reader": (
        _Rule(r"mm_projector\.(weight|bias)", (("mllm", rf"{_PROJECTOR}\1", "all"),)),
        _Rule(r"lm_head\.weight", (("mllm", _HEAD, "old"), ("smartedit", NEW_OUTPUTS, "new"))),
        # Some of these files repeat the embedding, which the release does not read from here either.
        _Rule(r"model\.base_model\.model\.embed_tokens\.weight"),
        _Rule(r"sd_query_tokens", (("smartedit", "qformer.queries", "all"),)),
        _Rule(r"sd_qformer\.embeddings\.position_ids"),
        _Rule(r"sd_qformer\.embeddings\.LayerNorm\.(\w+)", (("smartedit", r"qformer.layers.layernorm.\1", "all"),)),
        _Rule(
            r"sd_qformer\.encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.(\w+\.\w+)",
            (("smartedit", r"qformer.layers.encoder.layer.\1.\2.attention.\3", "all"),),
        ),
        _Rule(
            r"sd_qformer\.(encoder\.layer\.\d+\.(?:(?:cross)?attention\.output|intermediate_query|output_query)\.\w+\.\w+)",
            (("smartedit", r"qformer.layers.\1", "all"),),
        ),
    ),
    "unet": (_Rule(r"unet\.(.+)", (("unet", r"\1", "all"),)),),
    "interaction": (
        _Rule(r"modulate_head\.(\w+)", (("smartedit", r"interaction.context_in.\1", "all"),)),
        _Rule(r"modulate_transformer\.(.+)", (("smartedit", r"interaction.transformer.\1", "all"),)),
        _Rule(r"pe_layer\.(\w+)", (("smartedit", r"interaction.positions.\1", "all"),)),
        _Rule(r"dimension_reduction_head_zeroconv\.(\w+)", (("smartedit", r"interaction.features_out.\1", "all"),)),
        _Rule(r"dimension_reduction_head_qformer_out\.(\w+)", (("smartedit", r"interaction.context_out.\1", "all"),)),
    ),
    "llava": (
        _Rule(r"model\.embed_tokens\.weight", (("mllm", f"{_LLM}embed_tokens.weight", "old"),)),
        _Rule(r"model\.(?:.*\.)?rotary_emb\.inv_freq"),
        _Rule(r"model\.((?:layers\.\d+\.\w+(?:\.\w+_proj)?)|norm)\.weight", (("mllm", rf"{_LLM}\1.weight", "all"),)),
        _Rule(r"(?:model\.)?mm_projector\.(weight|bias)", (("mllm", rf"{_PROJECTOR}\1", "all"),)),
        _Rule(r"lm_head\.weight", (("mllm", _HEAD, "old"),)),
        # Where a LLaVA brings its CLIP along, it is the frozen, published one, which is read from its own folder.
        _Rule(r"model\.vision_tower\..+"),
    ),
    "clip": (_Rule(r"(.+)", (("mllm", r"model.vision_tower.\1", "all"),)),),
}


def places_of(source: Published, name: str) -> tuple[Place, ...] | None:
    """Where a published tensor goes.

    Args:
        source: the file it is in.
        name: its name there.

    Returns:
        Its places; none = it is known and not needed; None = nobody knows it.
    """
    for rule in _RULES[source]:
        match = re.fullmatch(rule.pattern, name)
        if match:
            return tuple(Place(part=part, name=match.expand(to), rows=rows) for part, to, rows in rule.places)
    return None
