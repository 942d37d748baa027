"""Shared self-attention: the published formulas written out, and what must not change (I10, GaussCtrl's alignment)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from maskedit.editors import EditRequest, FoI, FoIConfig, Instruction, ViewSharing
from maskedit.editors.core.attention import AttentionSite, attention_control, control_if_edited
from maskedit.editors.core.backbone import Backbone, Conditioning
from maskedit.editors.core.view_sharing import SharedAttention, share_views

BRANCHES = ("text", "image", "uncond")
SITE = AttentionSite(name="mid_block.attn1", kind="self", stage="mid", index=0)
Pictures = Callable[..., torch.Tensor]
Call = Callable[..., dict[str, torch.Tensor]]
BOTH = pytest.mark.parametrize("among", ["all", "references"])
SHARES = pytest.mark.parametrize("own", [0.0, 0.35, 0.6, 1.0])


@pytest.fixture(scope="module")
def inputs(backbone: Backbone, pictures: Pictures) -> tuple[torch.Tensor, Conditioning]:
    """Four different views."""
    condition = backbone.encode(pictures(4))
    conditioning = backbone.condition(BRANCHES, backbone.embed(["make the cube red"]), condition)
    return torch.randn(condition.shape, generator=torch.Generator().manual_seed(1)), conditioning


@pytest.fixture
def call(backbone: Backbone, inputs: tuple[torch.Tensor, Conditioning]) -> Call:
    """One UNet call of some views in some order, with attention shared or not."""

    def run(sharing: ViewSharing | None, rows: tuple[int, ...] = (0, 1, 2, 3)) -> dict[str, torch.Tensor]:
        latents, conditioning = inputs
        order = torch.tensor(rows)
        channels = conditioning.channels.unflatten(0, (3, -1))[:, order].flatten(0, 1)
        embeds = conditioning.embeds.unflatten(0, (3, -1))[:, order].flatten(0, 1)
        chosen = replace(conditioning, channels=channels, embeds=embeds)
        edits = [] if sharing is None else [SharedAttention(sharing, len(rows))]
        with control_if_edited(backbone.unet, edits, BRANCHES):
            return backbone.predict(latents[order], torch.tensor([500.0]), chosen)

    return run


def assert_same(ours: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    for branch in BRANCHES:
        torch.testing.assert_close(ours[branch], others[branch], atol=1e-5, rtol=1e-4)


def qkv_of(views: int, *, seed: int = 0) -> dict[str, tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return {b: tuple(torch.randn(views, 2, 5, 8, generator=generator) for _ in range(3)) for b in BRANCHES}


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of one view, written out."""
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value


def outputs_of(sharing: ViewSharing, qkv: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Plain outputs, and those of the edit."""
    edit = SharedAttention(sharing, len(qkv["text"][0]))
    plain = {branch: attend(*each) for branch, each in qkv.items()}
    assert edit.edit_qkv(qkv, SITE) is qkv
    return plain, dict(edit.edit_output(plain, SITE))


@SHARES
def test_among_all_is_attention_to_the_keys_of_all_views_in_a_row(own: float) -> None:
    qkv = qkv_of(3)
    plain, edited = outputs_of(ViewSharing(among="all", own_share=own), qkv)
    for branch, (query, key, value) in qkv.items():
        keys, values = torch.cat(list(key), 1), torch.cat(list(value), 1)
        for view in range(3):
            expected = own * plain[branch][view] + (1 - own) * attend(query[view], keys, values)
            torch.testing.assert_close(edited[branch][view], expected)


@SHARES
def test_with_references_it_is_gaussctrl_s_mean_over_them(own: float) -> None:
    qkv = qkv_of(6)
    plain, edited = outputs_of(ViewSharing(among="references", references=3, own_share=own), qkv)
    for branch, (query, key, value) in qkv.items():
        for view in range(6):
            read = torch.stack([attend(query[view], key[row], value[row]) for row in (0, 2, 4)]).mean(0)
            torch.testing.assert_close(edited[branch][view], own * plain[branch][view] + (1 - own) * read)


@BOTH
def test_i10_an_own_share_of_one_equals_plain_attention(call: Call, among: Any) -> None:
    assert_same(call(ViewSharing(among=among, own_share=1.0)), call(None))


@BOTH
@SHARES
def test_i10_identical_views_give_the_same_output_for_any_share(call: Call, among: Any, own: float) -> None:
    shared = call(ViewSharing(among=among, references=2, own_share=own), (1, 1, 1, 1))
    assert_same(shared, call(None, (1, 1, 1, 1)))


@pytest.mark.parametrize("own", [0.0, 0.6])
def test_i10_permuting_views_that_are_no_references_permutes_their_outputs(call: Call, own: float) -> None:
    sharing = ViewSharing(among="references", references=1, own_share=own)
    first, second = call(sharing, (0, 1, 2, 3)), call(sharing, (0, 3, 1, 2))
    assert_same({b: second[b] for b in BRANCHES}, {b: first[b][torch.tensor([0, 3, 1, 2])] for b in BRANCHES})


def test_among_all_the_order_of_the_views_does_not_matter(call: Call) -> None:
    first, second = call(ViewSharing()), call(ViewSharing(), (2, 0, 3, 1))
    assert_same(second, {b: first[b][torch.tensor([2, 0, 3, 1])] for b in BRANCHES})


def test_with_references_the_others_do_not_matter_to_each_other(call: Call) -> None:
    sharing = ViewSharing(among="references", references=1)
    first, second = call(sharing, (0, 1, 2, 3)), call(sharing, (0, 1, 3, 3))
    assert_same({b: first[b][:2] for b in BRANCHES}, {b: second[b][:2] for b in BRANCHES})


@BOTH
def test_i10_a_batch_of_one_equals_plain(call: Call, among: Any) -> None:
    assert share_views(ViewSharing(among=among), 1) == ()
    assert_same(call(ViewSharing(among=among), (2,)), call(None, (2,)))


def test_without_sharing_there_is_no_edit() -> None:
    assert share_views(None, 4) == ()
    assert len(share_views(ViewSharing(), 4)) == 1


@BOTH
def test_views_that_differ_change_each_other(call: Call, among: Any) -> None:
    plain, shared = call(None), call(ViewSharing(among=among))
    for branch in BRANCHES:
        assert ((shared[branch] - plain[branch]).abs().amax((1, 2, 3)) > 1e-4).all()


@BOTH
def test_branches_keep_to_themselves(backbone: Backbone, inputs: Any, among: Any) -> None:
    latents, conditioning = inputs
    embeds = conditioning.embeds.clone()
    embeds[:4] += 1
    results = []
    for chosen in (conditioning, replace(conditioning, embeds=embeds)):
        with attention_control(backbone.unet, [SharedAttention(ViewSharing(among=among), 4)], BRANCHES):
            results.append(backbone.predict(latents, torch.tensor([500.0]), chosen))
    assert not torch.allclose(results[0]["text"], results[1]["text"], atol=1e-4)
    assert torch.equal(results[0]["image"], results[1]["image"])
    assert torch.equal(results[0]["uncond"], results[1]["uncond"])


def test_it_acts_on_self_attention_of_the_chosen_stages() -> None:
    edit = SharedAttention(ViewSharing(stages=("mid", "up")), 2)
    for stage, wanted in (("down", False), ("mid", True), ("up", True)):
        assert edit.wants(replace(SITE, stage=stage), 0) is wanted
        assert edit.wants(replace(SITE, stage=stage), 7) is wanted
        assert not edit.wants(replace(SITE, stage=stage, kind="cross"), 0)


def test_it_keeps_no_tensors_of_a_layer() -> None:
    edit, qkv = SharedAttention(ViewSharing(), 2), qkv_of(2)
    edit.edit_qkv(qkv, SITE)
    edit.edit_output({branch: attend(*each) for branch, each in qkv.items()}, SITE)
    assert not edit._qkv


def test_it_lives_beside_edits_of_cross_attention(backbone: Backbone, inputs: Any, pass_through: Any) -> None:
    latents, conditioning = inputs
    shared = SharedAttention(ViewSharing(), 4)
    results = []
    for edits in ([shared], [shared, pass_through], [pass_through, shared]):
        with attention_control(backbone.unet, edits, BRANCHES):
            results.append(backbone.predict(latents, torch.tensor([500.0]), conditioning))
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])


RED = Instruction(text="make the cube red", keyword="cube")
HAT = Instruction(text="add a hat to the ball", keyword="hat")


def foi(backbone: Backbone, **config: Any) -> FoI:
    return FoI(backbone, FoIConfig(steps=6, keep_outside="paper", mask_squarings=1, **config))


@BOTH
def test_views_share_self_attention_beside_the_modulation(backbone: Backbone, pictures: Pictures, among: Any) -> None:
    """Twins edit each other into what each would be alone; different views do not."""
    sharing, editor = ViewSharing(among=among, references=1), foi(backbone)
    twins = EditRequest(image=pictures(seed=3).repeat(2, 1, 1, 1), instructions=(RED, HAT), seeds=(5, 5))
    alone, together = editor.edit(twins.rows(slice(0, 1))), editor.edit(replace(twins, sharing=sharing))
    torch.testing.assert_close(together.image, alone.image.repeat(2, 1, 1, 1), atol=1e-3, rtol=1e-3)
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., :32] = 1
    views = EditRequest(image=pictures(2), instructions=(replace(RED, mask=mask),), seeds=(5, 5))
    apart, shared = editor.edit(views), editor.edit(replace(views, sharing=sharing))
    assert not torch.allclose(apart.image[1], shared.image[1], atol=1e-3)


@pytest.mark.parametrize("config", [{}, {"rerun_first_step": True}, {"extract_at": 0.5}])
def test_find_masks_tells_what_an_edit_of_views_that_share_would_use(
    backbone: Backbone, pictures: Pictures, config: dict[str, Any]
) -> None:
    editor = foi(backbone, mask_threshold=0.3, **config)
    made = EditRequest(image=pictures(2), instructions=(RED, HAT), sharing=ViewSharing())
    found, used = editor.find_masks(made), editor.edit(made).masks
    assert all(torch.equal(f, u) for f, u in zip(found, used, strict=True))
