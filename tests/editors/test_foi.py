"""FoI as a whole: its invariants against plain InstructPix2Pix, its masks, its number of UNet calls."""

import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from maskedit.editors import (
    CheckpointPreset,
    EditRequest,
    FoI,
    FoIConfig,
    FoIPreset,
    Instruction,
    InstructPreset,
    IP2PConfig,
    ModelError,
    NothingFoundError,
    attention_sites,
    compose_instructions,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.guidance import InstructGuidance
from maskedit.editors.parts.instruct_pass import prepare_pass, resolve_run
from maskedit.editors.parts.masks import keyword_map, mask_to_grid, sharpen_map, threshold_map, union

Pictures = Callable[..., torch.Tensor]
RED = Instruction(text="make the cube red", keyword="cube")
HAT = Instruction(text="add a hat to the ball", keyword="hat")


def request(image: torch.Tensor, *instructions: Instruction, **more: Any) -> EditRequest:
    return EditRequest(image=image, instructions=instructions or (RED,), **more)


def half(image: torch.Tensor, *, left: bool = True) -> torch.Tensor:
    mask, middle = torch.zeros_like(image[:, :1]), image.shape[-1] // 2
    mask[..., slice(None, middle) if left else slice(middle, None)] = 1
    return mask


def foi(backbone: Backbone, **config: Any) -> FoI:
    return FoI(backbone, FoIConfig(**{"steps": 6, "keep_outside": "paper", **config}))


def plain(backbone: Backbone, made: EditRequest, config: FoIConfig, edit: Any) -> torch.Tensor:
    """InstructPix2Pix with FoI's start and the explicit attention of an edit that does nothing."""
    common = {"steps": config.steps, "sampler": config.sampler, "keep_outside": "paper"}
    settings = resolve_run(IP2PConfig(**common), backbone.preset.instruct, noise_level=config.noise_level or 0.8)
    prepared = prepare_pass(made, backbone, settings, compose_instructions(made.instructions, backbone.tokenizer))
    return prepared.run(InstructGuidance(), [edit]).clamp(0, 1)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor | None]:
    """The weight W of every step of the runs of a test, as the guidance got it."""
    seen: list[torch.Tensor | None] = []
    combine = InstructGuidance.combine

    def watched(self: InstructGuidance, noise_pred: Mapping, step: int, latents: torch.Tensor) -> torch.Tensor:
        seen.append(self.weight(step))
        return combine(self, noise_pred, step, latents)

    monkeypatch.setattr(InstructGuidance, "combine", watched)
    return seen


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
@pytest.mark.parametrize("special", ["union", "ones"])
def test_i1_full_masks_without_strength_equal_instruct_pix2pix_bit_for_bit(
    backbone: Backbone, pictures: Pictures, pass_through: Any, sampler: Any, special: Any
) -> None:
    image = pictures(2)
    full = torch.ones_like(image[:, :1])
    made = request(image, replace(RED, strength=0.0), replace(HAT, strength=0.0), mask=full)
    editor = foi(backbone, sampler=sampler, special_tokens=special, disentangle_end=0.0)
    assert torch.equal(editor.edit(made).image, plain(backbone, made, editor.config, pass_through))


def test_i1_with_w_of_one_by_full_masks_too(backbone: Backbone, pictures: Pictures, pass_through: Any) -> None:
    """Disentangled sampling with a full mask is the stock guidance, to the bit."""
    made = request(pictures(), replace(RED, strength=0.0), mask=torch.ones(1, 1, 64, 64))
    editor = foi(backbone, disentangle_end=1.0)
    assert torch.equal(editor.edit(made).image, plain(backbone, made, editor.config, pass_through))


def test_strength_and_masks_do_change_the_picture(backbone: Backbone, pictures: Pictures, pass_through: Any) -> None:
    image = pictures()
    base = plain(backbone, request(image, mask=half(image)), FoIConfig(steps=6), pass_through)
    boosted = foi(backbone, boost=0.9, disentangle_end=0.0).edit(request(image, mask=torch.ones(1, 1, 64, 64))).image
    confined = foi(backbone, boost=0.0, disentangle_end=0.0).edit(request(image, mask=half(image))).image
    disentangled = foi(backbone, boost=0.0, modulation_end=0.0).edit(request(image, mask=half(image))).image
    for other in (boosted, confined, disentangled):
        assert (other - base).abs().max() > 1e-3


def test_i2_empty_masks_leave_nothing_of_the_text(backbone: Backbone, pictures: Pictures) -> None:
    """With empty masks and the values swapped too, the text branch is the image branch: any text gives the same."""
    image = pictures()
    editor = foi(backbone, swap_values=True, disentangle_end=1.0)
    results = [editor.edit(request(image, i, mask=torch.zeros(1, 1, 64, 64))).image for i in (RED, HAT)]
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)


def test_i3_disentangling_with_an_empty_mask_ignores_the_text(backbone: Backbone, pictures: Pictures) -> None:
    editor, nothing = foi(backbone, disentangle_end=1.0, modulation_end=0.0), torch.zeros(1, 1, 64, 64)
    results = [editor.edit(request(pictures(), i, mask=nothing)).image for i in (RED, HAT)]
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize("strength", [-3.0, 1.0, 8.0])
def test_i4_the_other_branches_keep_every_bit(backbone: Backbone, pictures: Pictures, strength: float) -> None:
    image = pictures(2)
    made = request(image, replace(RED, strength=strength), mask=half(image))
    stock, seen = [], []
    for modulation_end, kept in ((0.0, stock), (1.0, seen)):
        editor = foi(backbone, steps=2, noise_level=1.0, modulation_end=modulation_end, boost=0.5)
        handles = [
            backbone.unet.get_submodule(site.name.removesuffix(".processor")).register_forward_hook(
                lambda module, args, output, kept=kept: kept.append(output)
            )
            for site in attention_sites(backbone.unet)
        ]
        editor.edit(made)
        for handle in handles:
            handle.remove()
    first = len(attention_sites(backbone.unet))
    # Rows 0 and 1 are the text branch; the first step, because later ones start from other latents.
    assert all(torch.equal(a[2:], b[2:]) for a, b in zip(stock[:first], seen[:first], strict=True))
    assert any(not torch.equal(a[:2], b[:2]) for a, b in zip(stock[:first], seen[:first], strict=True))


def test_i9_the_union_is_the_largest_mask(backbone: Backbone, pictures: Pictures) -> None:
    result = foi(backbone).edit(request(pictures(2), RED, HAT))
    assert torch.equal(result.mask, torch.stack(result.masks).amax(0))
    assert result.mask.sum() <= sum(mask.sum() for mask in result.masks)


@pytest.mark.parametrize(("rerun", "given", "calls"), [(False, False, 80), (True, False, 81), (True, True, 80)])
def test_i11_80_unet_calls_for_100_steps(
    variant: Callable[..., Backbone], pictures: Pictures, rerun: bool, given: bool, calls: int
) -> None:
    """At 80 % noise, in one call of all branches a step; only a repeated first step adds one."""
    backbone = variant()
    mask = torch.ones(1, 1, 64, 64) if given else None
    result = FoI(backbone, FoIConfig(rerun_first_step=rerun)).edit(request(pictures(), mask=mask))
    assert backbone.counts["unet"] == calls
    assert len(result.trace.timesteps) == 80
    assert result.trace.timesteps[0] == 797


def test_i11_w_is_the_union_until_executed_step_60(backbone: Backbone, pictures: Pictures, weights: list) -> None:
    FoI(backbone, FoIConfig()).edit(request(pictures()))
    assert len(weights) == 80
    assert all(weight is not None for weight in weights[:60])
    assert weights[60:] == [None] * 20
    assert all(torch.equal(weight, weights[0]) for weight in weights[:60])


def test_i12_permuting_instructions_permutes_their_masks(backbone: Backbone) -> None:
    """With a toy attention whose maps belong to the tokens and not to their places."""
    table = torch.rand((len(backbone.tokenizer), 16), generator=torch.Generator().manual_seed(0))

    def masks_of(*instructions: Instruction) -> list[torch.Tensor]:
        layout = compose_instructions(instructions, backbone.tokenizer)
        probs = table[layout.ids[0]].T[None]
        maps = [keyword_map(probs, columns, 4, 4) for columns in layout.keyword_columns]
        return [threshold_map(sharpen_map(each, squarings=2), 0.4) for each in maps]

    (red, hat), (hat_again, red_again) = masks_of(RED, HAT), masks_of(HAT, RED)
    assert not torch.equal(red, hat)
    assert torch.equal(red, red_again)
    assert torch.equal(hat, hat_again)
    assert torch.equal(union([red, hat]), union([hat_again, red_again]))


def test_masks_are_read_from_the_text_branch_at_the_map_resolution(backbone: Backbone, pictures: Pictures) -> None:
    """Against the maps computed by hand from the layers' own arithmetic."""
    image, editor = pictures(), foi(backbone, mask_squarings=1, mask_threshold=0.3, mask_blur=False)
    maps: list[torch.Tensor] = []

    def keep(module: Any, args: tuple, kwargs: dict) -> None:
        query = module.head_to_batch_dim(module.to_q(args[0]))
        key = module.head_to_batch_dim(module.to_k(kwargs["encoder_hidden_states"]))
        probs = module.get_attention_scores(query, key).unflatten(0, (3, 1, module.heads))
        if probs.shape[-2] == 16:
            maps.append(probs[0].mean(1))

    handles = [
        backbone.unet.get_submodule(site.name.removesuffix(".processor")).register_forward_pre_hook(
            keep, with_kwargs=True
        )
        for site in attention_sites(backbone.unet)
        if site.kind == "cross"
    ]
    (found,) = editor.find_masks(request(image))
    for handle in handles:
        handle.remove()
    assert len(maps) == 3
    layout = compose_instructions((RED,), backbone.tokenizer)
    attention = torch.stack(maps).mean(0)[0, :, list(layout.keyword_columns[0])].mean(-1).view(4, 4) ** 2
    expected = (attention - attention.min()) / (attention.max() - attention.min()) >= 0.3
    assert torch.equal(mask_to_grid(found, 16, 16).view(4, 4, 4, 4)[:, 1, :, 1].bool(), expected)


@pytest.mark.parametrize("config", [{}, {"rerun_first_step": True}, {"extract_at": 0.5}, {"extract_at": 0.99}])
@pytest.mark.parametrize("threshold", [0.3, "sample"])
def test_find_masks_tells_what_an_edit_would_use(
    backbone: Backbone, pictures: Pictures, config: dict[str, Any], threshold: Any
) -> None:
    editor = foi(backbone, mask_squarings=1, mask_threshold=threshold, **config)
    made = request(pictures(2, 50, 70), RED, HAT)
    found, used = editor.find_masks(made), editor.edit(made).masks
    assert all(torch.equal(f, u) for f, u in zip(found, used, strict=True))
    assert 0 < found[0].mean() < 1


def test_finding_masks_costs_one_unet_call(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    backbone = variant()
    foi(backbone).find_masks(request(pictures(2), RED, HAT))
    assert (backbone.counts["unet"], backbone.counts["decode"]) == (1, 0)


def test_masks_read_late_leave_the_steps_before_plain(backbone: Backbone, pictures: Pictures, weights: list) -> None:
    foi(backbone, steps=5, noise_level=1.0, extract_at=0.6, disentangle_end=1.0).edit(request(pictures()))
    assert [weight is None for weight in weights] == [True] * 3 + [False] * 2


def test_found_masks_given_back_select_the_same_regions(backbone: Backbone, pictures: Pictures) -> None:
    editor, made = foi(backbone, keep_outside="exact", mask_squarings=1), request(pictures(), RED, HAT)
    found = editor.find_masks(made)
    given = replace(made, instructions=tuple(replace(i, mask=m) for i, m in zip(made.instructions, found, strict=True)))
    auto, again = editor.edit(made), editor.edit(given)
    assert torch.equal(auto.mask, again.mask)
    outside = (auto.mask == 0).expand_as(auto.image)
    assert torch.equal(again.image[outside], made.image[outside])


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (128, 100), (33, 64)])
def test_pixels_outside_the_masks_equal_the_condition_bit_for_bit(
    backbone: Backbone, pictures: Pictures, size: tuple[int, int]
) -> None:
    image, condition = pictures(1, *size), pictures(1, *size, seed=1)
    result = foi(backbone, keep_outside="exact").edit(request(image, condition=condition))
    outside = (result.mask == 0).expand_as(image)
    assert outside.any()
    assert torch.equal(result.image[outside], condition[outside])
    assert not torch.equal(result.image[~outside], condition[~outside])
    assert result.trace.outside_change == (0.0,)
    assert result.trace.outside_change_unkept[0] > 0


def test_a_user_mask_overrides_the_found_one(backbone: Backbone, pictures: Pictures) -> None:
    image = pictures(1, 50, 90)
    mask = half(image)
    result = foi(backbone, keep_outside="exact").edit(request(image, RED, HAT, mask=mask))
    assert torch.equal(result.mask, mask)
    own = foi(backbone).edit(request(image, replace(RED, mask=mask), HAT))
    assert torch.equal(own.masks[0], mask)
    assert not torch.equal(own.masks[1], mask)


@contextmanager
def without_attention(backbone: Backbone):
    """Queries of zero: every map is the same everywhere."""
    layers = [
        backbone.unet.get_submodule(site.name.removesuffix(".processor")).to_q
        for site in attention_sites(backbone.unet)
        if site.kind == "cross"
    ]
    kept = [layer.weight.clone() for layer in layers]
    try:
        for layer in layers:
            layer.weight.zero_()
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.weight.copy_(weight)


@pytest.mark.parametrize("run", ["edit", "find_masks"])
def test_constant_attention_is_an_error_not_a_full_mask(backbone: Backbone, pictures: Pictures, run: str) -> None:
    with without_attention(backbone), pytest.raises(NothingFoundError, match="nothing found for 'cube'") as caught:
        getattr(foi(backbone), run)(request(pictures(2), RED, HAT))
    assert caught.value.phrase == "cube"
    assert caught.value.threshold == pytest.approx(0.55)
    assert "\n" not in str(caught.value)
    # The UNet is as before.
    foi(backbone).edit(request(pictures()))


def test_constant_attention_does_not_matter_where_masks_are_given(backbone: Backbone, pictures: Pictures) -> None:
    image = pictures()
    with without_attention(backbone):
        result = foi(backbone).edit(request(image, mask=half(image)))
    assert torch.equal(result.mask, half(image))


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_a_batch_equals_single_edits(backbone: Backbone, pictures: Pictures, sampler: Any) -> None:
    editor, image = foi(backbone, sampler=sampler, mask_squarings=1), pictures(3)
    batch = editor.edit(request(image, RED, HAT, seeds=(7, 8, 9)))
    chunked = foi(backbone, sampler=sampler, mask_squarings=1, chunk=2).edit(request(image, RED, HAT, seeds=(7, 8, 9)))
    for row in range(3):
        one = slice(row, row + 1)
        single = editor.edit(request(image[one], RED, HAT, seeds=(7 + row,)))
        assert torch.equal(batch.mask[one], single.mask)
        torch.testing.assert_close(batch.image[one], single.image, atol=2e-4, rtol=0)
        torch.testing.assert_close(chunked.image[one], single.image, atol=2e-4, rtol=0)


def test_noise_levels_of_each_picture_equal_single_edits(backbone: Backbone, pictures: Pictures) -> None:
    editor, image, levels = foi(backbone, sampler="ddim"), pictures(2), (0.4, 0.95)
    batch = editor.edit(request(image, noise_levels=levels))
    for row, level in enumerate(levels):
        one = slice(row, row + 1)
        single = editor.edit(request(image[one], seeds=(row,), noise_levels=(level,)))
        torch.testing.assert_close(batch.image[one], single.image, atol=2e-4, rtol=0)


def test_a_sampled_threshold_belongs_to_the_picture_and_its_seed(backbone: Backbone, pictures: Pictures) -> None:
    editor, image = foi(backbone, mask_threshold="sample", mask_squarings=1), pictures(2)
    batch = editor.edit(request(image, seeds=(3, 4)))
    single = editor.edit(request(image[1:], seeds=(4,)))
    torch.testing.assert_close(batch.image[1:], single.image, atol=2e-4, rtol=0)
    assert torch.equal(batch.mask[1:], single.mask)


def test_a_second_edit_of_a_view_encodes_only_its_new_render(
    variant: Callable[..., Backbone], pictures: Pictures
) -> None:
    backbone, conditions = variant(), pictures(2, seed=1)
    editor = foi(backbone)
    for seed in (2, 3):
        editor.edit(request(pictures(2, seed=seed), condition=conditions))
    # Two conditions and twice two renders; the instruction and the empty text.
    assert (backbone.counts["image"], backbone.counts["text"]) == (6, 2)
    for seeds in ((1, 2), (3, 4)):
        editor.edit(request(conditions, seeds=seeds))
    assert (backbone.counts["image"], backbone.counts["text"]) == (6, 2)


@pytest.mark.parametrize(
    "option",
    [
        {"boost_max": "space"},
        {"boost_max": "all"},
        {"boost_time": "executed"},
        {"special_tokens": "zeros"},
        {"mask_resize": "bilinear"},
        {"swap_values": True},
        {"rerun_first_step": True},
        {"modulation_end": 0.5},
        {"extract_at": 0.5},
        {"mask_blur": False},
        {"mask_squarings": 5},
        {"mask_stages": ("up",)},
        {"mask_stride": 2},
        {"boost": 0.0},
    ],
    ids=str,
)
def test_every_option_acts(backbone: Backbone, pictures: Pictures, option: dict[str, Any]) -> None:
    base = {"boost": 0.8, "mask_squarings": 1, "mask_threshold": 0.4}
    made = request(pictures(), RED, HAT)
    assert not torch.equal(foi(backbone, **base).edit(made).image, foi(backbone, **(base | option)).edit(made).image)


def test_the_preset_of_a_checkpoint_fills_what_is_open(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    preset = CheckpointPreset(
        instruct=InstructPreset(sampler="ddim", steps=5),
        foi=FoIPreset(noise_level=0.6, mask_stride=2, mask_stages=("up",), mask_squarings=1, mask_threshold=0.3),
    )
    backbone = variant(preset=preset)
    result = FoI(backbone).edit(request(pictures()))
    assert backbone.counts["unet"] == 3
    used = result.trace.settings
    assert (used["sampler"], used["steps"], used["noise_level"]) == ("ddim", 5, 0.6)
    assert (used["stride"], used["stages"], used["squarings"], used["threshold"]) == (2, ("up",), 1, 0.3)


def test_a_resolution_that_no_layer_has_is_one_clear_line(backbone: Backbone, pictures: Pictures) -> None:
    with pytest.raises(ModelError, match="no cross-attention layer of this UNet has 1 tokens in"):
        foi(backbone, mask_stride=16).edit(request(pictures()))


def test_the_trace_is_json_and_names_the_keywords(backbone: Backbone, pictures: Pictures) -> None:
    trace = foi(backbone).edit(request(pictures(), RED, Instruction(text="remove the blue ball"))).trace
    stored = json.loads(json.dumps(asdict(trace)))
    assert stored["keywords"] == ["cube", "blue ball"]
    assert stored["prompt"] == "make the cube red, remove the blue ball"
    assert stored["settings"]["foi"]["disentangle_end"] == 0.75
