"""Edits: every way to name blocks names the right ones, every kind does what its sentence says."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from maskedit.bench.blocks import (
    COLORS,
    DEFAULT_KINDS,
    DEFAULT_REFERENCES,
    FIXED_REFERENCES,
    SIZES,
    Block,
    BlockEdit,
    Mirror,
    Named,
    Scene,
    apply_edits,
    block_origins,
    draw_edits,
    horizontal_position,
    make_pairs,
    name_blocks,
    sample_camera,
    sample_scene,
    vocabulary,
)

FAMILIES = ("plain", "color", "left_right", "size", "multiple", "mirror", "reasoning")
KINDS = ("recolor", "remove", "resize", "reshape", "material", "add")
MIRROR = Mirror(x=-2.4, y=0.0, azimuth=0.0)


def block(shape: str, color: str, size: str = "large", **more) -> Block:
    return Block(**{"shape": shape, "color": color, "size": size, "x": 0.0, "y": 0.0, **more})


SCENE = Scene(
    blocks=(
        block("cube", "red", "small", x=-1.2),
        block("cube", "blue", "large", x=1.2),
        block("sphere", "red", "large", y=1.2),
        block("cylinder", "green", "small", y=-1.2),
    )
)


def names(scene: Scene, family: str, *, visible=(0, 1, 2, 3), across=(-0.5, 0.5, 0.1, -0.1), reflected=()):
    counts = [dict.fromkeys(rows, 100.0) for rows in (visible, reflected)]
    return name_blocks(scene, family, visible=counts[0], across=list(across), reflected_visible=counts[1])


def targets(found: list[Named]) -> dict[str, tuple[int, ...]]:
    return {named.phrase: named.targets for named in found}


def edit(
    kind: str, target: int | tuple[int, ...], new: tuple[Block, ...] = (), *, reflected: bool = False
) -> BlockEdit:
    at = (target,) if isinstance(target, int) else target
    named = Named(phrase="the thing", keyword="thing", targets=at, family="plain", reflected=reflected)
    return BlockEdit(kind=kind, text="edit the thing", keyword="thing", named=named, new=new)


def draw(seed: int, *, kinds=None, references=None, count=1, mirror=False):
    """Edits of a random scene of which everything is visible."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, mirror=mirror)
    camera = sample_camera(rng, scene.mirror)
    everything = dict.fromkeys(range(len(scene.blocks)), 100.0)
    across = [horizontal_position(camera, b.x, b.y) for b in scene.blocks]
    edits = draw_edits(
        rng,
        scene,
        visible=everything,
        across=across,
        reflected_visible=everything if mirror else None,
        count=count,
        kinds=kinds,
        references=references,
    )
    return scene, edits, across


def test_plain_names_are_those_that_only_one_block_answers():
    found = targets(names(SCENE, "plain"))
    assert found["the red cube"] == (0,)
    assert found["the small cube"] == (0,)
    assert found["the sphere"] == (2,)
    assert found["the large red sphere"] == (2,)
    assert "the cube" not in found


def test_colour_names_leave_out_colours_that_two_blocks_share():
    assert targets(names(SCENE, "color")) == {"the blue thing": (1,), "the green thing": (3,)}


def test_left_and_right_follow_the_picture():
    found = targets(names(SCENE, "left_right"))
    assert found == {
        "the left cube": (0,),
        "the cube on the left": (0,),
        "the right cube": (1,),
        "the cube on the right": (1,),
    }
    turned = targets(names(SCENE, "left_right", across=(0.5, -0.5, 0.1, -0.1)))
    assert turned["the left cube"] == (1,)
    assert names(SCENE, "left_right", across=(0.05, 0.0, 0.1, -0.1)) == []


def test_smaller_and_larger_compare_two_of_a_shape():
    assert targets(names(SCENE, "size")) == {"the smaller cube": (0,), "the larger cube": (1,)}
    alike = replace(SCENE, blocks=(SCENE.blocks[0], replace(SCENE.blocks[1], size="small"), *SCENE.blocks[2:]))
    assert names(alike, "size") == []


def test_several_blocks_are_named_by_shape_or_colour():
    assert targets(names(SCENE, "multiple")) == {"all cubes": (0, 1), "all red things": (0, 2)}
    assert targets(names(SCENE, "multiple", visible=(0, 2, 3))) == {"all red things": (0, 2)}


def test_mirror_names_need_the_block_in_the_mirror():
    found = names(replace(SCENE, mirror=MIRROR), "mirror", reflected=(1,))
    assert {named.targets for named in found} == {(1,)}
    assert all(named.reflected and named.phrase.endswith(" in the mirror") for named in found)
    assert names(SCENE, "mirror") == []


def test_mirror_names_follow_what_the_mirror_shows():
    shown = (block("sphere", "yellow"),)
    found = names(replace(SCENE, mirror=MIRROR, reflected=shown), "mirror", reflected=(0,))
    assert "the yellow sphere in the mirror" in targets(found)


def test_reasoning_names_one_block_by_shape_or_colour():
    found = targets(names(SCENE, "reasoning"))
    assert found["the thing that looks like a ball"] == (2,)
    assert found["the thing that rolls only one way"] == (3,)
    assert found["the thing that has the color of the sea"] == (1,)
    assert found["the thing that has the color of grass"] == (3,)
    assert "the thing that has corners" not in found
    assert "the thing that has the color of a tomato" not in found


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "mirror"])
def test_hidden_blocks_are_never_named(family):
    assert names(SCENE, family, visible=()) == []


def _answers(words: list[str], thing: Block) -> bool:
    """Whether a block answers every colour, shape and size of a phrase, read independently of how it was made."""
    singular = [
        word.removesuffix("s") if word.removesuffix("s") in ("cube", "sphere", "cylinder") else word for word in words
    ]
    attributes = {thing.color, thing.shape, thing.size}
    named = set(singular) & {*COLORS, *SIZES, "cube", "sphere", "cylinder"}
    return named <= attributes


@pytest.mark.parametrize("family", ["plain", "color", "multiple", "mirror"])
def test_in_random_scenes_exactly_the_targets_answer_the_phrase(family):
    seen = 0
    for seed in range(80):
        scene = sample_scene(np.random.default_rng(seed), mirror=family == "mirror")
        everyone = tuple(range(len(scene.blocks)))
        across = [float(i) for i in everyone]
        for named in names(scene, family, visible=everyone, across=across, reflected=everyone):
            words = named.phrase.split()
            assert tuple(i for i in everyone if _answers(words, scene.blocks[i])) == named.targets, named.phrase
            seen += 1
    assert seen > 20


# Things are put on one block, not on several or on an image.
ASKABLE = [(k, f) for k in KINDS for f in FAMILIES if k != "add" or f not in ("mirror", "multiple")]


@pytest.mark.parametrize(("kind", "family"), ASKABLE)
def test_every_kind_can_be_asked_by_every_family(kind, family):
    drawn = [draw(s, kinds={kind: 1.0}, references={family: 1.0}, mirror=family == "mirror")[1] for s in range(60)]
    found = [edits[0] for edits in drawn if edits]
    assert found, "sixty scenes offer at least one"
    words = set(vocabulary())
    for one in found:
        assert (one.kind, one.named.family) == (kind, family)
        assert one.keyword in one.text
        assert one.named.phrase in one.text
        assert one.named.keyword in one.named.phrase
        assert set(one.text.split()) <= words
        assert "{" not in one.text


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_say_what_the_edit_does(kind):
    verbs = set()
    for seed in range(150):
        scene, edits, _ = draw(seed, kinds={kind: 1.0}, references={"plain": 1.0, "multiple": 1.0})
        for one in edits:
            verbs.add(one.text.split()[0])
            old = [scene.blocks[t] for t in one.named.targets]
            says = one.text.replace(one.named.phrase, "it").split()
            last = says[-1]
            if kind == "recolor":
                assert all(b.color == last for b in one.new) and all(b.color != last for b in old)
            elif kind == "remove":
                assert one.new == ()
            elif kind == "resize":
                size = {"bigger": "large", "smaller": "small"}.get(last, last)
                assert all(b.size == size for b in one.new)
                assert any(b.size != size for b in old)
                if last in ("bigger", "smaller"):
                    assert all(b.size != size for b in old)
            elif kind == "reshape":
                assert all(b.shape == last.removesuffix("s") for b in one.new) and all(b.shape != last for b in old)
                assert last.endswith("s") == (len(old) > 1)
                assert ("a" in says) == (len(old) == 1)
            elif kind == "material":
                assert all(b.material == last for b in one.new)
                assert any(b.material != last for b in old)
            else:
                (guest,) = one.new
                assert f"a {guest.noun}" in one.text and one.text.endswith(f"on top of {one.named.phrase}")
                assert guest.z == pytest.approx(old[0].z + 2 * old[0].half) and old[0].shape != "sphere"
            changed = {"recolor": "color", "resize": "size", "reshape": "shape", "material": "material"}.get(kind)
            if changed is not None:
                assert all(replace(n, **{changed: getattr(o, changed)}) == o for n, o in zip(one.new, old, strict=True))
    expected = {
        "recolor": {"make", "turn", "paint", "change"},
        "remove": {"remove", "delete", "take"},
        "resize": {"make"},
        "reshape": {"turn", "replace", "change"},
        "material": {"make"},
        "add": {"add", "put"},
    }
    assert verbs == expected[kind], "every template is used"


@pytest.mark.parametrize("family", ["mirror", "multiple"])
def test_nothing_is_put_on_several_blocks_or_on_an_image(family):
    assert not any(draw(s, kinds={"add": 1.0}, references={family: 1.0}, mirror=True)[1] for s in range(20))


def test_several_instructions_act_on_different_blocks():
    for seed in range(60):
        scene, edits, _ = draw(seed, count=3)
        at = [t for one in edits for t in one.named.targets]
        assert len(at) == len(set(at))
        assert 1 <= len(edits) <= len(scene.blocks)


def test_drawing_is_repeatable():
    assert draw(5, count=2) == draw(5, count=2)


def test_shares_sum_to_one():
    for shares in (DEFAULT_KINDS, DEFAULT_REFERENCES, FIXED_REFERENCES):
        assert math.isclose(sum(shares.values()), 1.0)
    assert "left_right" not in FIXED_REFERENCES


def test_captions_stay_in_the_vocabulary():
    words = set(vocabulary())
    for seed in range(40):
        scene, edits, _ = draw(seed, mirror=seed % 2 == 0)
        for text in (scene.caption, apply_edits(scene, edits)[0].caption, Scene(blocks=()).caption):
            assert set(re.findall(r"[^\s,]+", text)) <= words


def test_remove_add_and_recolour_together_keep_the_books():
    guest = block("sphere", "white", "small", x=1.2, z=1.17)
    white = replace(SCENE.blocks[3], color="white")
    edits = (edit("remove", 0), edit("add", 1, (guest,)), edit("recolor", 3, (white,)))
    edited, where = apply_edits(SCENE, edits)
    assert edited.blocks == (SCENE.blocks[1], SCENE.blocks[2], white, guest)
    assert where == ((), (3,), (2,))
    assert edited.reflected is None
    assert block_origins(SCENE, edits) == ((1, 2, 3, 1), None)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_order_of_edits_does_not_change_the_result(order):
    white = replace(SCENE.blocks[3], color="white")
    both = tuple(replace(b, color="purple") for b in SCENE.blocks[1:3])
    edits = (edit("remove", 0), edit("recolor", (1, 2), both), edit("recolor", 3, (white,)))
    where = ((), (0, 1), (2,))
    edited, found = apply_edits(SCENE, [edits[i] for i in order])
    assert edited.blocks == (*both, white)
    assert found == tuple(where[i] for i in order)


def test_no_edits_change_nothing():
    assert apply_edits(SCENE, ()) == (SCENE, ())


def test_an_edit_of_the_image_in_the_mirror_leaves_the_blocks_alone():
    scene = replace(SCENE, mirror=MIRROR)
    white = replace(SCENE.blocks[2], color="white")
    edits = (edit("remove", 1, reflected=True), edit("recolor", 2, (white,), reflected=True))
    edited, where = apply_edits(scene, edits)
    assert edited.blocks == scene.blocks
    assert edited.reflected == (scene.blocks[0], white, scene.blocks[3])
    assert where == ((), (1,))
    assert block_origins(scene, edits) == ((0, 1, 2, 3), (0, 2, 3))


def test_the_mirror_shows_direct_edits_beside_edits_of_its_image():
    scene = replace(SCENE, mirror=MIRROR)
    blue, guest = replace(SCENE.blocks[2], color="blue"), block("cube", "white", "small", z=0.84)
    edits = (
        edit("recolor", 2, (blue,)),
        edit("remove", 1, reflected=True),
        edit("remove", 0),
        edit("add", 3, (guest,)),
    )
    edited, where = apply_edits(scene, edits)
    assert edited.blocks == (scene.blocks[1], blue, scene.blocks[3], guest)
    assert edited.reflected == (blue, scene.blocks[3], guest)
    assert where == ((1,), (), (), (3,))


def test_later_edits_count_the_blocks_that_the_mirror_shows():
    scene = replace(SCENE, mirror=MIRROR, reflected=SCENE.blocks[2:])
    white = replace(SCENE.blocks[3], color="white")
    edited, where = apply_edits(scene, (edit("remove", 0), edit("recolor", 1, (white,), reflected=True)))
    assert edited.blocks == scene.blocks[1:]
    assert edited.reflected == (SCENE.blocks[2], white)
    assert where == ((), (1,))


def test_left_and_right_agree_with_where_the_blocks_appear():
    """The silhouette of `the left cube` lies left of that of the other cube."""
    pairs = make_pairs("test", range(12), references={"left_right": 1.0}, kinds={"recolor": 1.0}, height=48)
    for row, spec in enumerate(pairs.specs):
        (target,) = spec.edits[0].named.targets
        camera, blocks = spec.camera, spec.scene.blocks
        other = next(i for i, b in enumerate(blocks) if b.shape == blocks[target].shape and i != target)
        columns = pairs.masks[row][0].nonzero()[:, 1].float().mean() - 23.5
        assert columns.isfinite()
        here, there = (horizontal_position(camera, blocks[i].x, blocks[i].y) for i in (target, other))
        assert (here < there) == ("left" in spec.edits[0].named.phrase)
        assert abs(columns / 24 - here) < 0.25, "the mask is where the name was looked for"


def test_twins_are_told_apart_by_side_and_by_size():
    blocks = (block("cube", "red", "small"), block("cube", "red"), block("cube", "blue"), block("sphere", "red"))
    scene = Scene(blocks=blocks)
    found = names(scene, "twin", across=(0.4, -0.5, 0.0, 0.1))
    assert {named.family for named in found} == {"twin"}
    assert targets(found) == {
        "the left red cube": (1,),
        "the red cube on the left": (1,),
        "the right red cube": (0,),
        "the red cube on the right": (0,),
        "the smaller red cube": (0,),
        "the larger red cube": (1,),
    }
    assert {named.keyword for named in found if named.targets == (1,)} == {
        "left red cube",
        "red cube",
        "larger red cube",
    }
    assert targets(names(scene, "twin", across=(0.0, 0.1, 0.5, 0.6))) == {
        "the smaller red cube": (0,),
        "the larger red cube": (1,),
    }
    assert names(scene, "twin", visible=(0, 2, 3)) == []


def test_of_three_twins_one_is_in_the_middle():
    scene = Scene(blocks=(block("cube", "red", "small"), block("cube", "red"), block("cube", "red")))
    found = targets(names(scene, "twin", visible=(0, 1, 2), across=(0.5, 0.0, -0.5)))
    assert found["the middle red cube"] == found["the red cube in the middle"] == (1,)
    assert found["the left red cube"] == (2,)
    assert found["the red cube on the right"] == (0,)
    assert len(found) == 6
    assert names(scene, "twin", visible=(0, 1, 2), across=(0.5, 0.0, -0.1)) == []
    four = replace(scene, blocks=(*scene.blocks, block("cube", "red")))
    assert names(four, "twin", across=(0.5, 0.0, -0.5, -0.9)) == []


def test_phrases_of_twins_stay_in_the_vocabulary_and_hold_their_keyword():
    words, seen = set(vocabulary()), set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng, twins=True)
        camera = sample_camera(rng)
        across = [horizontal_position(camera, b.x, b.y) for b in scene.blocks]
        for named in names(scene, "twin", visible=range(len(scene.blocks)), across=across):
            assert set(named.phrase.split()) <= words
            assert named.keyword in named.phrase
            assert scene.blocks[named.targets[0]].noun in named.phrase
            seen.add(named.phrase.split()[1])
    assert {"left", "right", "middle", "smaller", "larger"} <= seen


def test_twins_are_no_part_of_the_standard_sets():
    assert "twin" not in DEFAULT_REFERENCES and "twin" not in FIXED_REFERENCES
