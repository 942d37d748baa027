"""Pairs: repeatable, independent of the batch, and with masks that say what changed."""

import pytest
import torch

from maskedit.bench.blocks import CHANGED_THRESHOLD, make_pairs, render
from maskedit.editors import InputError

PLAIN = {"plain": 1.0}


def equal(one, two, rows=slice(None)) -> bool:
    pictures = ("source", "target", "changed", "source_objects", "target_objects")
    return (
        one.specs[rows] == two.specs
        and all(torch.equal(getattr(one, name)[rows], getattr(two, name)) for name in pictures)
        and all(torch.equal(a, b) for a, b in zip(one.masks[rows], two.masks, strict=True))
    )


def test_the_same_arguments_give_the_same_pairs():
    assert equal(make_pairs("train", [4, 1], height=32), make_pairs("train", [4, 1], height=32))


def test_a_pair_does_not_depend_on_the_others_of_its_batch():
    together = make_pairs("train", range(10), edits=(1, 2), height=32)
    for i in (0, 3, 9):
        assert equal(together, make_pairs("train", [i], edits=(1, 2), height=32), slice(i, i + 1))
    reverse = make_pairs("train", [9, 3], edits=(1, 2), height=32)
    assert torch.equal(reverse.source[1], together.source[3])


def test_an_index_may_occur_twice():
    pairs = make_pairs("train", [2, 2], height=24)
    assert pairs.specs[0] == pairs.specs[1]
    assert torch.equal(pairs.source[0], pairs.source[1])


def test_splits_show_different_scenes():
    scenes = [make_pairs(split, range(6), height=24).specs for split in ("train", "validation", "test")]
    assert len({spec.scene for row in scenes for spec in row}) == 18


def test_variants_share_the_source_and_differ_in_the_edit():
    pairs = make_pairs("train", range(4), variants=3, height=32)
    assert len(pairs.specs) == 12
    for i in range(4):
        rows = pairs.specs[3 * i : 3 * i + 3]
        assert torch.equal(pairs.source[3 * i], pairs.source[3 * i + 2])
        assert len({spec.scene for spec in rows}) == 1
    assert len({spec.instruction for spec in pairs.specs}) > 8


def test_the_changed_pixels_of_a_recolour_are_the_silhouettes():
    """Without anti-aliasing and highlights, recolouring changes what shows the target and nothing else."""
    pairs = make_pairs("test", range(40), kinds={"recolor": 1.0}, references={"plain": 1.0, "multiple": 0.5}, samples=1)
    checked = 0
    for row, spec in enumerate(pairs.specs):
        if any(spec.scene.blocks[t].material == "shiny" for t in spec.edits[0].named.targets):
            continue
        assert torch.equal(pairs.changed[row], pairs.mask[row]), spec.instruction
        checked += 1
    assert checked > 15


@pytest.mark.parametrize("kind", ["recolor", "remove", "resize", "reshape", "material", "add"])
def test_nothing_but_masks_and_shadows_changes(kind):
    pairs = make_pairs("test", range(12), kinds={kind: 1.0}, references=PLAIN, samples=1)
    outside = pairs.changed & ~pairs.mask
    # Beside the silhouettes only the ground may change, by the shadow of the blocks.
    objects = pairs.source_objects | pairs.target_objects
    assert not (outside & objects).any()
    if kind in ("recolor", "material"):
        assert not outside.any()
    assert pairs.mask.flatten(1).any(1).all()
    assert (pairs.changed & pairs.mask).flatten(1).any(1).float().mean() > 0.6


def test_masks_of_removed_and_added_blocks_are_their_silhouettes():
    removed = make_pairs("test", range(8), kinds={"remove": 1.0}, references=PLAIN, height=48)
    for row, spec in enumerate(removed.specs):
        picture = render([spec.scene], [spec.camera], height=48)
        assert torch.equal(removed.masks[row], picture.block_mask(spec.edits[0].named.targets[0]))
        assert len(spec.edited.blocks) == len(spec.scene.blocks) - 1
    added = make_pairs("test", range(8), kinds={"add": 1.0}, references=PLAIN, height=48)
    for row, spec in enumerate(added.specs):
        picture = render([spec.edited], [spec.camera], height=48)
        assert torch.equal(added.masks[row], picture.block_mask(len(spec.scene.blocks)))
        assert spec.edited_index == ((len(spec.scene.blocks),),)


def test_several_instructions_have_a_mask_each():
    pairs = make_pairs("test", range(8), edits=3, height=48)
    for row, spec in enumerate(pairs.specs):
        assert pairs.masks[row].shape == (3, 48, 48)
        assert spec.instruction.count(", ") == 2
        assert all(mask.any() for mask in pairs.masks[row])
    assert torch.equal(pairs.mask[0, 0], pairs.masks[0][0] | pairs.masks[0][1] | pairs.masks[0][2])


@pytest.mark.parametrize("kind", ["recolor", "remove", "reshape"])
def test_edits_of_the_image_change_pixels_of_the_mirror_only(kind):
    pairs = make_pairs("test", range(6), kinds={kind: 1.0}, references={"mirror": 1.0}, mirror=True, samples=1)
    for row, spec in enumerate(pairs.specs):
        picture = render([spec.scene], [spec.camera], samples=1)
        assert not (pairs.changed[row, 0] & (picture.index[0] != -1)).any()
        assert pairs.changed[row].any()
        assert not (pairs.masks[row] & (picture.index != -1)).any()
        assert spec.edited.blocks == spec.scene.blocks


def test_a_direct_edit_shows_in_the_mirror_but_its_mask_is_the_block():
    pairs = make_pairs("test", range(8), kinds={"recolor": 1.0}, references=PLAIN, mirror=True, samples=1)
    mirrored = 0
    for row, spec in enumerate(pairs.specs):
        picture = render([spec.scene], [spec.camera], samples=1)
        image = picture.block_mask(spec.edits[0].named.targets[0], reflected=True)
        mirrored += int((pairs.changed[row] & image).sum())
        assert not (pairs.masks[row] & image).any()
    assert mirrored > 50


def test_named_blocks_can_be_seen():
    pairs = make_pairs("test", range(20))
    for row, spec in enumerate(pairs.specs):
        if spec.edits[0].kind != "add":
            assert pairs.masks[row].sum() >= 0.008 * 64 * 64


def test_changed_is_the_difference_of_the_pictures():
    pairs = make_pairs("test", range(3), height=32)
    expected = (pairs.source - pairs.target).abs().amax(1, keepdim=True) > CHANGED_THRESHOLD
    assert torch.equal(pairs.changed, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indices": []}, "at least one scene index"),
        ({"indices": [0], "edits": 0}, "at least one edit per pair"),
        ({"indices": [0], "edits": 6}, "most <= 5"),
        ({"indices": [0], "references": {"mirror": 1.0}, "height": 8}, "did not offer 1 edits"),
        ({"indices": [-1]}, "index must be in"),
    ],
)
def test_what_no_scene_can_offer_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_pairs("train", **arguments)


@pytest.mark.gpu
def test_pairs_are_made_on_the_gpu():
    pairs = make_pairs("train", range(4), edits=2, height=32, device="cuda")
    assert pairs.source.is_cuda and pairs.mask.is_cuda


def test_pairs_with_twins_name_one_of_them():
    pairs = make_pairs("test", range(6), references={"twin": 1.0}, kinds={"recolor": 1.0}, twins=True, height=48)
    for row, spec in enumerate(pairs.specs):
        (edit,) = spec.edits
        (target,) = edit.named.targets
        noun = spec.scene.blocks[target].noun
        assert noun in edit.text
        assert sum(b.noun == noun for b in spec.scene.blocks) in (2, 3)
        assert torch.equal(pairs.masks[row], render([spec.scene], [spec.camera], height=48).block_mask(target))


def test_a_refusal_says_whether_there_were_twins():
    with pytest.raises(InputError, match="twins=True"):
        make_pairs("train", [0], references={"mirror": 1.0}, twins=True, height=8)
