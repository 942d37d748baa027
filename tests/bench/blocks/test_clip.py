"""Clips: what moves, what the twin shares, and flow that explains the frames."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from maskedit.bench.blocks import (
    Block,
    BlockEdit,
    BlockMotion,
    Clip,
    ClipSpec,
    Mirror,
    Named,
    OrbitCamera,
    Scene,
    render,
    render_clip,
    sample_clip,
    warp_back,
)
from maskedit.editors import InputError

CUBE = Block(shape="cube", color="red", size="large", x=0.8, y=0.3)
BALL = Block(shape="sphere", color="blue", size="small", x=-0.6, y=-0.7)
SCENE = Scene(blocks=(CUBE, BALL))
CAMERAS = tuple(OrbitCamera(azimuth=0.05 * i, elevation=0.35) for i in range(4))
SLIDE = BlockMotion(block=0, shift=(0.3, -0.3), turn=0.6)


def edit(kind: str, target: int, *new: Block, reflected: bool = False) -> BlockEdit:
    named = Named(phrase="it", keyword="it", targets=(target,), family="plain", reflected=reflected)
    return BlockEdit(kind=kind, text="edit it", keyword="it", named=named, new=new)


def spec(*edits: BlockEdit, scene: Scene = SCENE) -> ClipSpec:
    return ClipSpec(scene=scene, edits=edits, cameras=CAMERAS, motions=(SLIDE,))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(sample_clip("test", 2, frames=5, kinds={"recolor": 1.0}), height=64)


def psnr(one, two, valid) -> float:
    return -10 * math.log10((one - two).square().mean(1)[valid].mean().item())


def test_a_motion_is_steady_from_the_first_frame_to_the_last():
    scenes = spec().scenes()
    assert scenes[0] == SCENE
    assert [s.blocks[1] for s in scenes] == [BALL] * 4
    assert [s.blocks[0].x for s in scenes] == pytest.approx([0.8, 0.9, 1.0, 1.1])
    assert [s.blocks[0].yaw for s in scenes] == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_edited_and_added_blocks_move_with_the_block_they_were():
    guest = Block(shape="sphere", color="white", size="small", x=0.8, y=0.3, z=2 * CUBE.half)
    blue = replace(CUBE, color="cyan")
    last = spec(edit("recolor", 0, blue), edit("remove", 1), edit("add", 0, guest)).scenes(edited=True)[-1]
    assert [b.color for b in last.blocks] == ["cyan", "white"]
    for block in last.blocks:
        assert (block.x, block.y, block.yaw) == pytest.approx((1.1, 0.0, 0.6))
    assert last.blocks[1].z == guest.z


def test_removing_an_earlier_block_does_not_move_a_wrong_one():
    motion = BlockMotion(block=1, shift=(0.0, 0.3))
    removed = ClipSpec(scene=SCENE, edits=(edit("remove", 0),), cameras=CAMERAS, motions=(motion,))
    assert removed.scenes(edited=True)[-1].blocks[0].y == pytest.approx(-0.4)
    still = ClipSpec(scene=SCENE, edits=(edit("remove", 0),), cameras=CAMERAS, motions=(SLIDE,))
    assert still.scenes(edited=True)[-1].blocks == (BALL,)


def test_what_the_mirror_shows_moves_too():
    scene = replace(SCENE, mirror=Mirror(x=-2.4, y=0.0, azimuth=0.0))
    edits = (edit("remove", 1, reflected=True),)
    last = spec(*edits, scene=scene).scenes(edited=True)[-1]
    assert [b.x for b in last.blocks] == pytest.approx([1.1, -0.6])
    assert last.reflected is not None
    assert [b.x for b in last.reflected] == pytest.approx([1.1])


def test_frames_are_those_of_the_renderer(clip: Clip):
    for footage, edited in ((clip.source, False), (clip.edited, True)):
        drawn = render(clip.spec.scenes(edited=edited), clip.spec.cameras, samples=3)
        assert torch.equal(footage.frames, drawn.rgb)
        assert torch.equal(footage.depth, drawn.depth)
    assert clip.source.frames.shape == (5, 3, 64, 64)
    assert clip.source.forward.shape == clip.source.backward.shape == (4, 2, 64, 64)


@pytest.mark.parametrize(
    "options", [{"slide": 0.0}, {"sweep": 0.0}, {"mirror": True}, {"edits": 2, "kinds": {"add": 1.0, "recolor": 1.0}}]
)
def test_flow_explains_the_frames_both_ways_and_in_the_twin(options):
    """Frame t + 1 fetched along the flow is frame t wherever both show the point (and frame t the next, backward)."""
    rendered = render_clip(sample_clip("test", 3, frames=4, **options), height=96)
    for footage in (rendered.source, rendered.edited):
        early, late = footage.frames[:-1], footage.frames[1:]
        for warped, truth, occluded, other in (
            (warp_back(late, footage.forward), early, footage.forward_occluded, late),
            (warp_back(early, footage.backward), late, footage.backward_occluded, early),
        ):
            assert occluded.float().mean() < 0.25
            value = psnr(warped, truth, ~occluded)
            assert value > 29
            assert value > psnr(other, truth, ~occluded) + 4


def test_the_twin_shares_the_motion_of_what_was_not_edited(clip: Clip):
    """A recolour changes no flow."""
    torch.testing.assert_close(clip.source.forward, clip.edited.forward)
    assert torch.equal(clip.source.backward_occluded, clip.edited.backward_occluded)
    assert torch.equal(clip.source.depth, clip.edited.depth)


def test_masks_are_the_silhouettes_in_every_frame(clip: Clip):
    drawn = render(clip.spec.scenes(), clip.spec.cameras)
    targets = clip.spec.edits[0].named.targets
    expected = torch.stack([drawn.block_mask(t) for t in targets]).any(0)
    assert torch.equal(clip.masks, expected[None])
    assert torch.equal(clip.mask[:, 0], expected)
    assert clip.mask.flatten(1).any(1).all()
    # Anti-aliased edges apart, a recolour changes the mask and nothing else.
    widened = torch.nn.functional.max_pool2d(clip.mask.float(), 3, stride=1, padding=1) > 0
    assert not (clip.changed & ~widened).any()
    assert (clip.changed & clip.mask).sum() > 0.8 * clip.mask.sum()


def test_sampling_is_repeatable_and_splits_differ():
    assert sample_clip("train", 7, frames=3) == sample_clip("train", 7, frames=3)
    assert sample_clip("train", 7, frames=3).scene != sample_clip("test", 7, frames=3).scene


def test_sampled_motions_keep_blocks_apart_and_on_the_floor():
    slid = 0
    for index in range(12):
        drawn = sample_clip("test", index, frames=6)
        slid += any(motion.shift != (0.0, 0.0) for motion in drawn.motions)
        for scene in drawn.scenes():
            assert all(math.hypot(b.x, b.y) < 1.75 for b in scene.blocks)
            for one, two in itertools.combinations(scene.blocks, 2):
                assert math.hypot(one.x - two.x, one.y - two.y) > 1.35
    assert slid >= 9


def test_the_camera_sweeps_around_where_the_pair_was_seen():
    drawn = sample_clip("test", 0, frames=5, sweep=0.4, slide=0.0)
    azimuths = [camera.azimuth for camera in drawn.cameras]
    assert azimuths[-1] - azimuths[0] == pytest.approx(0.4)
    assert drawn.motions == ()
    assert len({camera.elevation for camera in drawn.cameras}) == 1


def test_a_clip_without_edits_is_its_own_twin():
    rendered = render_clip(spec(), height=24, width=32, samples=1)
    assert torch.equal(rendered.source.frames, rendered.edited.frames)
    assert rendered.masks.shape == (0, 4, 24, 32)
    assert not rendered.changed.any()


def test_impossible_clips_are_refused():
    with pytest.raises(InputError, match="at least 2 frames"):
        ClipSpec(scene=SCENE, edits=(), cameras=CAMERAS[:1])
    with pytest.raises(InputError, match="names block 2, but the scene has 2"):
        ClipSpec(scene=SCENE, edits=(), cameras=CAMERAS, motions=(BlockMotion(block=2),))


@pytest.mark.gpu
def test_clips_are_rendered_on_the_gpu():
    rendered = render_clip(spec(edit("remove", 1)), height=32, device="cuda")
    assert rendered.source.forward.is_cuda and rendered.mask.is_cuda
