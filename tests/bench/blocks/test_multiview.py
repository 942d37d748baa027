"""Multi-view datasets: nerfstudio loads them as they are, and the truth fits every view."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.bench.blocks import (
    FIXED_REFERENCES,
    GROUND,
    MultiviewTruth,
    camera_to_world,
    focal_length,
    make_pairs,
    orbit_cameras,
    project_points,
    read_multiview,
    render,
    write_multiview,
)
from maskedit.editors import InputError

SIZE = 40

# nerfstudio opens a picture to learn its size and leaves the closing to the interpreter.
LOADS = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def loads(test):
    for mark in LOADS:
        test = mark(test)
    return test


def spec(index: int = 0, **more):
    return make_pairs("test", [index], **{"references": FIXED_REFERENCES, "height": 48, **more}).specs[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = spec(edits=2, kinds={"recolor": 1.0, "remove": 1.0})
    home = tmp_path_factory.mktemp("multiview") / "scene"
    write_multiview(home, one.scene, one.edits, views=10, held_out=2, size=SIZE, points=500)
    return home


@pytest.fixture(scope="module")
def truth(folder: Path) -> MultiviewTruth:
    return read_multiview(folder)


def load(folder: Path, split: str):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    return NerfstudioDataParserConfig(data=folder, load_3D_points=False).setup().get_dataparser_outputs(split)


@loads
def test_nerfstudio_loads_both_scenes_with_the_split(folder: Path, truth: MultiviewTruth):
    for home in (folder, folder / "edited"):
        for split, views in (("train", truth.training), ("val", truth.held_out), ("test", truth.held_out)):
            outputs = load(home, split)
            assert [path.stem for path in outputs.image_filenames] == [truth.names[view] for view in views]
            assert all(path.is_file() and path.parent == home / "images" for path in outputs.image_filenames)
            assert outputs.mask_filenames is None
            assert outputs.cameras.height[0].item() == outputs.cameras.width[0].item() == SIZE
            focal = focal_length(truth.cameras[0], SIZE)
            torch.testing.assert_close(outputs.cameras.fx, torch.full((len(views), 1), focal))
    assert len(truth.held_out) == 2
    assert not set(truth.training) & set(truth.held_out)


@loads
def test_undoing_nerfstudios_transform_gives_the_poses_of_the_truth(folder: Path, truth: MultiviewTruth):
    outputs = load(folder, "train")
    poses = outputs.cameras.camera_to_worlds.clone()
    poses[:, :, 3] /= outputs.dataparser_scale
    moved = torch.cat([outputs.dataparser_transform, torch.tensor([[0.0, 0.0, 0.0, 1.0]])])
    back = moved.inverse() @ torch.cat([poses, moved.new_tensor([[[0, 0, 0, 1]]]).expand(len(poses), 1, 4)], 1)
    torch.testing.assert_close(back, truth.poses[list(truth.training)], atol=1e-4, rtol=0)


@loads
def test_both_scenes_are_moved_in_the_same_way(folder: Path):
    one, two = load(folder, "train"), load(folder / "edited", "train")
    assert one.dataparser_scale == two.dataparser_scale
    assert torch.equal(one.dataparser_transform, two.dataparser_transform)
    assert torch.equal(one.cameras.camera_to_worlds, two.cameras.camera_to_worlds)


def test_points_lifted_from_one_view_land_on_the_same_colour_in_its_neighbour(truth: MultiviewTruth):
    """Depth, pose and intrinsics as written agree: what view 0 lifts into the world, view 1 sees at that depth."""
    poses, depth = truth.poses, truth.depth
    focal = focal_length(truth.cameras[0], SIZE)
    down, right = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    offset = torch.stack([right - SIZE / 2, -(down - SIZE / 2), torch.full_like(down, -focal)], -1) / focal
    checked = 0
    for one, two in ((0, 1), (4, 3), (7, 8)):
        solid = depth[one] < 8
        points = (offset * depth[one][..., None])[solid] @ poses[one, :3, :3].T + poses[one, :3, 3]
        place, along = project_points(
            poses[two : two + 1], torch.tensor([focal]), points[None], height=SIZE, width=SIZE
        )
        column, row = place[0].floor().long().unbind(-1)
        inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
        seen = depth[two][row[inside], column[inside]]
        visible = (seen - along[0, inside]).abs() < 0.04 * seen
        assert visible.float().mean() > 0.6
        before = truth.source[one][:, solid][:, inside][:, visible]
        after = truth.source[two][:, row[inside], column[inside]][:, visible]
        assert (before - after).abs().mean() < 0.04
        checked += int(visible.sum())
    assert checked > 1000


def test_pictures_and_truth_are_those_of_the_renderer(truth: MultiviewTruth):
    for scene, pictures, depth in (
        (truth.scene, truth.source, truth.depth),
        (truth.edited_scene, truth.target, truth.edited_depth),
    ):
        drawn = render([scene] * 10, truth.cameras, height=SIZE, samples=3)
        assert (drawn.rgb - pictures).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal(drawn.depth, depth)
    torch.testing.assert_close(truth.poses, torch.stack([camera_to_world(c) for c in truth.cameras]))


def test_there_is_a_mask_for_each_instruction_and_view(truth: MultiviewTruth):
    assert truth.masks.shape == (2, 10, SIZE, SIZE)
    assert truth.instruction == ", ".join(edit.text for edit in truth.edits)
    drawn = render([truth.scene] * 10, truth.cameras, height=SIZE)
    for edit, mask in zip(truth.edits, truth.masks, strict=True):
        assert torch.equal(mask, torch.stack([drawn.block_mask(t) for t in edit.named.targets]).any(0))
        assert mask.flatten(1).any(1).float().mean() > 0.7
    # Soft edges and shadows on the ground apart, the twin is the source outside of the masks.
    free = truth.mask | (drawn.index == GROUND)[:, None]
    widened = torch.nn.functional.max_pool2d(free.float(), 3, stride=1, padding=1) > 0
    assert not (truth.changed & ~widened).any()
    assert (truth.changed & truth.mask).sum() > 0.7 * truth.mask.sum()
    assert torch.equal(truth.mask, truth.masks.any(0)[:, None])


def test_the_record_can_be_read_without_this_project(folder: Path, truth: MultiviewTruth):
    record = json.loads((folder / "truth" / "truth.json").read_text())
    assert record["caption"] == truth.scene.caption
    assert record["edited_caption"] == truth.edited_scene.caption
    assert record["instructions"] == [edit.text for edit in truth.edits]
    assert record["keywords"] == [edit.keyword for edit in truth.edits]
    assert "truth" not in (folder / "transforms.json").read_text()


def test_sparse_points_lie_on_what_training_views_see(folder: Path, truth: MultiviewTruth):
    for home, depth in ((folder, truth.depth), (folder / "edited", truth.edited_depth)):
        rows = (home / "sparse_pc.ply").read_text().split("end_header\n")[1].splitlines()
        values = torch.tensor(np.loadtxt(rows), dtype=torch.float32)
        assert values.shape == (500, 6)
        points = values[:, :3]
        assert points[:, 2].min() > -1e-3
        assert points.norm(dim=-1).max() < 4
        focal = torch.full((10,), focal_length(truth.cameras[0], SIZE))
        place, along = project_points(truth.poses, focal, points[None].expand(10, -1, -1), height=SIZE, width=SIZE)
        at = place.floor().long().clamp(0, SIZE - 1)
        seen = depth[torch.arange(10)[:, None], at[..., 1], at[..., 0]]
        inside = ((place >= 0) & (place < SIZE)).all(-1)
        agrees = inside & ((seen - along).abs() < 1e-3)
        assert agrees[list(truth.training)].any(0).all(), "each point is the centre of a pixel of a training view"


def test_the_same_arguments_write_the_same_files(folder: Path, tmp_path: Path):
    one = spec(edits=2, kinds={"recolor": 1.0, "remove": 1.0})
    write_multiview(tmp_path / "again", one.scene, one.edits, views=10, held_out=2, size=SIZE, points=500)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_a_mirror_scene_and_own_cameras(tmp_path: Path):
    one = spec(mirror=True, references={"mirror": 1.0}, kinds={"recolor": 1.0})
    cameras = orbit_cameras(4, radius=6.0, mirror=one.scene.mirror)
    truth = write_multiview(tmp_path / "mirror", one.scene, one.edits, cameras=cameras, held_out=1, size=32)
    assert truth.cameras == cameras
    assert truth.edited_scene == one.edited
    assert truth.mask.flatten(1).any(1).any()


@loads
def test_cameras_of_different_fields_of_view_keep_their_own_focal_lengths(tmp_path: Path):
    one = spec()
    wide, *rest = orbit_cameras(4)
    cameras = [replace(wide, fov=1.0), *rest]
    truth = write_multiview(tmp_path / "fov", one.scene, one.edits, cameras=cameras, held_out=1, size=32)
    outputs = load(tmp_path / "fov", "train")
    expected = [focal_length(cameras[view], 32) for view in truth.training]
    torch.testing.assert_close(outputs.cameras.fx[:, 0], torch.tensor(expected))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"views": 6, "held_out": 0}, r"held_out must be in \[1"), ({"views": 3, "held_out": 2}, "got 2 of 3 views")],
)
def test_splits_without_pictures_are_refused(tmp_path: Path, arguments, message):
    one = spec()
    with pytest.raises(InputError, match=message):
        write_multiview(tmp_path / "scene", one.scene, one.edits, size=16, **arguments)
    assert not (tmp_path / "scene").exists()


def test_instructions_that_hold_from_one_side_only_are_refused(tmp_path: Path):
    one = spec(references={"left_right": 1.0})
    with pytest.raises(InputError, match="holds from some sides only"):
        write_multiview(tmp_path / "scene", one.scene, one.edits, size=16)


def test_nothing_is_overwritten(folder: Path):
    one = spec()
    with pytest.raises(InputError, match="holds something"):
        write_multiview(folder, one.scene, one.edits, views=4, held_out=1, size=16)


def test_an_incomplete_folder_is_refused(tmp_path: Path):
    one = spec()
    write_multiview(tmp_path / "scene", one.scene, one.edits, views=4, held_out=1, size=16)
    (tmp_path / "scene" / "truth" / "depth" / "frame_00002.npz").unlink()
    with pytest.raises(InputError, match="incomplete"):
        read_multiview(tmp_path / "scene")
    with pytest.raises(InputError, match="no such file"):
        read_multiview(tmp_path)
