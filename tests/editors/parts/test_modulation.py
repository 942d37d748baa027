"""FoI's attention modulation: invariants I2, I5, I6, I7 and I13, and where the masks reach."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from maskedit.editors import ModelError
from maskedit.editors.core.attention import AttentionSite
from maskedit.editors.parts.modulation import MaskedAttention, boost_at, modulate

CROSS = AttentionSite(name="x", kind="cross", stage="up", index=0)
SELF = AttentionSite(name="y", kind="self", stage="up", index=0)
SEGMENTS = (-1, 0, 0, 0, 1, 1, -1, -1)
BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 3, 64, 8, 4


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def logits(seed: int, queries: int = QUERIES) -> torch.Tensor:
    return draw(seed, BATCH, HEADS, queries, KEYS)


def half_masks(size: int = 8) -> list[torch.Tensor]:
    """The first instruction acts on the left half, the second on the two lowest rows."""
    left, low = torch.zeros(BATCH, 1, size, size), torch.zeros(BATCH, 1, size, size)
    left[..., : size // 2] = 1
    low[..., size - 2 :, :] = 1
    return [left, low]


def attention(strengths: Sequence[float] = (1.0, 1.0), **changes: Any) -> MaskedAttention:
    times = changes.pop("times", torch.linspace(0.8, 0.0, 5)[:, None])
    defaults = {"over": "query", "special": "union", "resize": "nearest", "swap_values": False, "steps": range(5)}
    return MaskedAttention(
        segments=SEGMENTS, strengths=strengths, times=times, boost=changes.pop("boost", 0.05), **(defaults | changes)
    )


def edited(made: MaskedAttention, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return made.edit_scores({"text": text, "image": image}, CROSS)["text"]


def flat(mask: torch.Tensor) -> torch.Tensor:
    return mask[0].flatten().bool()


def test_i13_the_boost_rises_from_nothing_to_its_value() -> None:
    values = boost_at(torch.linspace(0, 1, 101), 0.05)
    assert values[0] == 0
    assert values[-1].item() == pytest.approx(0.05)
    assert (values.diff() > 0).all()


def test_the_boost_of_the_first_executed_step() -> None:
    """Specification 4.4: 0.0202 at t = 0.797, 0.0031 at t = 0.5."""
    assert boost_at(torch.tensor([0.79718, 0.5]), 0.05).tolist() == pytest.approx([0.0202, 0.0031], abs=5e-5)


def test_i2_a_mask_of_zeros_is_the_empty_instruction() -> None:
    text, image = logits(0), logits(1)
    for strength in (0.0, 1.0, 9.0):
        result = modulate(
            text, image, torch.zeros(BATCH, 1, QUERIES, KEYS), torch.full((1, 1, 1, KEYS), 0.02 * strength)
        )
        assert torch.equal(result.softmax(-1), image.softmax(-1))


def test_i2_holds_with_masks_that_are_set() -> None:
    made, text, image = attention((5.0, 5.0)), logits(0), logits(1)
    made.set_masks([torch.zeros(BATCH, 1, 8, 8)] * 2)
    assert torch.equal(edited(made, text, image), image)


def test_full_masks_without_strength_change_nothing() -> None:
    made, text, image = attention((0.0, 0.0)), logits(0), logits(1)
    made.set_masks([torch.ones(BATCH, 1, 8, 8)] * 2)
    assert torch.equal(edited(made, text, image), text)


@pytest.mark.parametrize("over", ["query", "space", "all"])
def test_i5_rows_sum_to_one_and_the_maximum_is_kept(over: Any) -> None:
    text, ones = logits(0), torch.ones(BATCH, 1, QUERIES, KEYS)
    boosted = modulate(text, logits(1), ones, torch.full((1, 1, 1, KEYS), 0.5), over=over)
    torch.testing.assert_close(boosted.softmax(-1).sum(-1), torch.ones(BATCH, HEADS, QUERIES))
    if over == "query":
        assert (boosted <= text.amax(-1, keepdim=True)).all()
        assert torch.equal(boosted.argmax(-1), text.argmax(-1))
    axes = {"query": -1, "space": -2, "all": (-2, -1)}[over]
    torch.testing.assert_close(boosted, text + 0.5 * (text.amax(axes, keepdim=True) - text))


def test_i6_more_strength_moves_attention_to_the_instruction() -> None:
    text, image, special = logits(0), logits(1), torch.tensor([owner == -1 for owner in SEGMENTS])
    shares = []
    for strength in (-5.0, 0.0, 1.0, 5.0, 10.0):
        made = attention((strength, 1.0), boost=0.2)
        made.set_masks(half_masks())
        probs = edited(made, text, image).softmax(-1)[:, :, flat(half_masks()[0])]
        own, fixed = probs[..., 1:4].sum(-1), probs[..., special].sum(-1)
        shares.append(own / (own + fixed))
    assert all((more >= less - 1e-6).all() for less, more in itertools.pairwise(shares))
    assert shares[-1].mean() > shares[0].mean() + 0.01


def test_i7_outside_its_mask_an_instruction_does_not_look_at_its_own_keys() -> None:
    """Replace the keys of segment 2 by noise; outside M_2 the logits of its columns keep every bit."""
    query, key, empty = (draw(s, BATCH, HEADS, n, WIDTH) for s, n in ((0, QUERIES), (1, KEYS), (2, KEYS)))
    noisy = key.clone()
    noisy[:, :, 4:6] = draw(3, BATCH, HEADS, 2, WIDTH) * 10
    made = attention((3.0, 3.0))
    made.set_masks(half_masks())
    image = query @ empty.mT
    before, after = (edited(made, query @ k.mT, image) for k in (key, noisy))
    outside = ~flat(half_masks()[1])
    assert torch.equal(before[:, :, outside][..., 4:6], after[:, :, outside][..., 4:6])
    assert torch.equal(before[:, :, outside][..., 4:6], image[:, :, outside][..., 4:6])
    assert not torch.equal(before[:, :, ~outside][..., 4:6], after[:, :, ~outside][..., 4:6])


def test_each_column_follows_the_mask_of_its_instruction() -> None:
    made, text, image = attention((0.0, 0.0)), logits(0), logits(1)
    masks = half_masks()
    made.set_masks(masks)
    result = edited(made, text, image)
    left, low = (flat(mask) for mask in masks)
    for column, owner in enumerate(SEGMENTS):
        inside = {0: left, 1: low, -1: left | low}[owner]
        assert torch.equal(result[:, :, inside, column], text[:, :, inside, column])
        assert torch.equal(result[:, :, ~inside, column], image[:, :, ~inside, column])


@pytest.mark.parametrize(("special", "own"), [("ones", True), ("zeros", False)])
def test_special_tokens_may_be_inside_or_outside_everywhere(special: str, own: bool) -> None:
    made, text, image = attention((0.0, 0.0), special=special), logits(0), logits(1)
    made.set_masks(half_masks())
    assert torch.equal(edited(made, text, image)[..., 0], (text if own else image)[..., 0])


def test_special_tokens_are_never_boosted() -> None:
    made, text, image = attention((10.0, 10.0), boost=0.5), logits(0), logits(1)
    made.set_masks([torch.ones(BATCH, 1, 8, 8)] * 2)
    result = edited(made, text, image)
    assert torch.equal(result[..., [0, 6, 7]], text[..., [0, 6, 7]])
    assert not torch.equal(result[..., 1:6], text[..., 1:6])


def test_the_boost_follows_the_step() -> None:
    made, text, image = attention(), logits(0), logits(1)
    made.set_masks([torch.ones(BATCH, 1, 8, 8)] * 2)
    lifts = []
    for step in range(5):
        made.begin_step(step)
        lifts.append((edited(made, text, image) - text)[..., 1].sum().item())
    assert lifts == sorted(lifts, reverse=True)
    assert lifts[0] > 0
    assert lifts[-1] == 0


def test_pictures_may_be_at_their_own_times() -> None:
    made, text, image = attention(times=torch.tensor([[0.9, 0.0]] * 5)), logits(0), logits(1)
    made.set_masks([torch.ones(BATCH, 1, 8, 8)] * 2)
    made.begin_step(0)
    result = edited(made, text, image)
    assert not torch.equal(result[0], text[0])
    assert torch.equal(result[1], text[1])


@pytest.mark.parametrize("latents", [(8, 8), (16, 16), (13, 8), (5, 7)])
@pytest.mark.parametrize("resize", ["nearest", "bilinear"])
def test_masks_reach_every_resolution(latents: tuple[int, int], resize: str) -> None:
    made = attention((0.0, 0.0), resize=resize)
    full = torch.ones(BATCH, 1, *latents)
    made.set_masks([full, torch.zeros_like(full)])
    rows, columns = latents
    for _ in range(4):
        tokens = rows * columns
        text, image = logits(0, tokens), logits(1, tokens)
        result = edited(made, text, image)
        assert torch.equal(result[..., :4], text[..., :4])
        assert torch.equal(result[..., 4:6], image[..., 4:6])
        rows, columns = -(-rows // 2), -(-columns // 2)


def test_layers_that_fit_no_resolution_are_refused() -> None:
    made = attention()
    made.set_masks(half_masks())
    with pytest.raises(ModelError, match="10 attention tokens do not fit latents of 8x8"):
        edited(made, logits(0, 10), logits(1, 10))


def test_it_acts_on_cross_attention_at_its_steps_once_masks_are_known() -> None:
    made = attention(steps=range(3))
    assert not made.wants(CROSS, 0)
    made.set_masks(half_masks())
    assert [made.wants(CROSS, step) for step in range(5)] == [True, True, True, False, False]
    assert not made.wants(SELF, 0)


def test_values_outside_the_union_may_be_swapped() -> None:
    outputs = {
        branch: draw(seed, BATCH, HEADS, QUERIES, WIDTH) for seed, branch in enumerate(("text", "image", "uncond"))
    }
    for swap in (False, True):
        made = attention(swap_values=swap)
        made.set_masks(half_masks())
        result = made.edit_output(outputs, CROSS)
        union = flat(half_masks()[0]) | flat(half_masks()[1])
        assert torch.equal(result["text"][:, :, union], outputs["text"][:, :, union])
        source = "image" if swap else "text"
        assert torch.equal(result["text"][:, :, ~union], outputs[source][:, :, ~union])
        assert result["image"] is outputs["image"]
        assert result["uncond"] is outputs["uncond"]


def test_masks_must_be_set_before_they_are_used() -> None:
    with pytest.raises(RuntimeError, match="before they were set"):
        edited(attention(), logits(0), logits(1))
