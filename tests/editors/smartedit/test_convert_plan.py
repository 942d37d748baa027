"""What each tensor is made of is decided from names and shapes, and every gap is found."""

from dataclasses import replace
from typing import Any

import pytest

from maskedit.editors.core.errors import ModelError
from maskedit.editors.smartedit.architecture import SmartEditArchitecture
from maskedit.editors.smartedit.convert_plan import (
    Origin,
    adapter_shapes,
    check_plan,
    count_rows,
    make_plan,
    read_architecture,
)

LANGUAGE = "model.base_model.model."
SHAPES: Any = {
    "llava": {"model.norm.weight": (8,), "lm_head.weight": (13, 8), "model.mm_projector.bias": (8,)},
    "language": {
        f"{LANGUAGE}norm.weight": (8,),
        f"{LANGUAGE}embed_tokens.weight": (17, 8),
        f"{LANGUAGE}layers.0.self_attn.q_proj.lora_A.default.weight": (2, 8),
    },
    "reader": {"lm_head.weight": (17, 8)},
    "unet": {"unet.conv_in.bias": (4,)},
}
WANTED: Any = {
    "mllm": {
        "model.language_model.norm.weight": (8,),
        "model.language_model.embed_tokens.weight": (10, 8),
        "lm_head.weight": (10, 8),
        "model.multi_modal_projector.linear_1.bias": (8,),
    },
    "smartedit": {"new_inputs": (7, 8), "new_outputs": (7, 8)},
    "adapter": {"base_model.model.layers.0.self_attn.q_proj.lora_A.weight": (2, 8)},
    "unet": {"conv_in.bias": (4,)},
}


def test_what_stands_first_is_written_and_the_rest_is_compared() -> None:
    plan = make_plan(SHAPES, 10)
    head = plan.parts["mllm"]["lm_head.weight"]
    assert head == tuple(
        Origin(source=source, name="lm_head.weight", rows="old", shape=(10, 8)) for source in ("llava", "reader")
    )
    assert [each.source for each in plan.parts["mllm"]["model.language_model.norm.weight"]] == ["llava", "language"]
    (new,) = plan.parts["smartedit"]["new_outputs"]
    assert (new.source, new.rows, new.shape) == ("reader", "new", (7, 8))
    check_plan(plan, WANTED)


@pytest.mark.parametrize(
    ("source", "change", "message"),
    [
        ("unet", {"conv_out.bias": (4,)}, "1 left over (unet: conv_out.bias)"),
        ("unet", {"unet.conv_out.bias": (4,)}, "1 left over (unet: unet.conv_out.bias)"),
        ("unet", {"unet.conv_in.bias": (5,)}, "1 of another shape (unet: unet.conv_in.bias (5,), not (4,))"),
        ("llava", {"lm_head.weight": (9, 8)}, "1 of another shape (llava: lm_head.weight (9, 8), not (10, 8))"),
    ],
)
def test_names_and_shapes_that_do_not_fit(source: str, change: dict[str, Any], message: str) -> None:
    shapes = {**SHAPES, source: {**SHAPES[source], **change}}
    with pytest.raises(ModelError) as error:
        check_plan(make_plan(shapes, 10), WANTED)
    assert message in str(error.value)


def test_all_gaps_are_counted_and_the_first_are_named() -> None:
    wanted = {**WANTED, "unet": {**WANTED["unet"], **{f"mid.{i}": (1,) for i in range(5)}}}
    with pytest.raises(ModelError, match=r"5 missing \(unet: mid.0, unet: mid.1, unet: mid.2, ...\)"):
        check_plan(make_plan(SHAPES, 10), wanted)


def test_old_rows_are_those_before_the_new_tokens() -> None:
    assert count_rows(SHAPES, SmartEditArchitecture(image_tokens=4)) == 10
    with pytest.raises(ModelError, match="of more than 35 rows"):
        count_rows(SHAPES, SmartEditArchitecture())


def test_every_layer_needs_its_adapter() -> None:
    plan = make_plan(SHAPES, 10)
    assert adapter_shapes(plan, 1) == WANTED["adapter"]
    wanted = {**WANTED, "adapter": adapter_shapes(plan, 2)}
    with pytest.raises(ModelError, match=r"1 missing \(adapter: base_model.model.layers.1.self_attn.q_proj"):
        check_plan(plan, wanted)


def bert(layers: int, every: int) -> dict[str, Any]:
    name = "sd_qformer.encoder.layer."
    found: dict[str, Any] = {"sd_query_tokens": (1, 7, 24)}
    for i in range(layers):
        found[f"{name}{i}.intermediate_query.dense.weight"] = (48, 24)
        if i % every == 0:
            found[f"{name}{i}.crossattention.output.dense.weight"] = (24, 24)
    return found


@pytest.mark.parametrize(("layers", "every"), [(6, 2), (6, 1), (4, 3), (2, 2)])
def test_sizes_are_read_from_shapes(layers: int, every: int) -> None:
    like = SmartEditArchitecture(image_tokens=5, qformer_heads=6)
    found = read_architecture({"reader": bert(layers, every)}, like)
    sizes = {"queries": 7, "context_width": 24, "qformer_layers": layers, "qformer_intermediate": 48}
    assert found == replace(like, **sizes, cross_every=every, interaction="none")


def test_sizes_of_the_interaction() -> None:
    bim: Any = {
        "modulate_head.weight": (32, 24),
        "dimension_reduction_head_zeroconv.weight": (16, 32, 1, 1),
        "modulate_transformer.layers.0.mlp.lin1.weight": (40, 32),
    }
    found = read_architecture({"reader": bert(2, 2), "interaction": bim}, SmartEditArchitecture(interaction_heads=4))
    assert (found.interaction, found.interaction_width, found.interaction_depth) == ("two-way", 32, 1)
    assert (found.interaction_mlp, found.unet_width, found.final_attention) == (40, 16, False)


def test_a_qformer_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="lack a part or have odd sizes"):
        read_architecture({"reader": {}}, SmartEditArchitecture())
    with pytest.raises(ModelError, match="must be a multiple of qformer_heads"):
        read_architecture({"reader": bert(2, 2)}, SmartEditArchitecture(qformer_heads=16))
