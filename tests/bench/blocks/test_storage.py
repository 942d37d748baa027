"""Files of the blocks world come back as they were written."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.bench.blocks import Mirror, OrbitCamera, apply_edits, make_pairs, write_pictures, write_video
from maskedit.bench.blocks.storage import (
    frame_names,
    read_json,
    read_masks,
    read_pictures,
    record_to_camera,
    record_to_edit,
    record_to_scene,
    scene_to_record,
    start_folder,
    write_json,
    write_masks,
    write_points,
)
from maskedit.editors import InputError

NAMES = frame_names(2)


def through_json(record):
    return json.loads(json.dumps(record))


def test_scenes_edits_and_cameras_survive_json():
    pairs = make_pairs("test", range(4), edits=2, mirror=True, references={"mirror": 1.0, "plain": 1.0}, height=32)
    for spec in pairs.specs:
        for scene in (spec.scene, spec.edited):
            assert record_to_scene(through_json(scene_to_record(scene))) == scene
        edits = tuple(record_to_edit(through_json(asdict(edit))) for edit in spec.edits)
        assert edits == spec.edits
        assert apply_edits(spec.scene, edits)[0] == spec.edited
        assert record_to_camera(through_json(asdict(spec.camera))) == spec.camera
    assert any(isinstance(spec.scene.mirror, Mirror) and spec.edited.reflected for spec in pairs.specs)
    assert record_to_camera(asdict(OrbitCamera(azimuth=1.0, elevation=0.2))).target == (0.0, 0.0, 0.45)


def test_pictures_come_back_within_rounding_and_masks_exactly(tmp_path: Path):
    images = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    masks = images[:, 0] > 0.5
    write_pictures(tmp_path / "images", NAMES, images)
    write_masks(tmp_path / "masks", NAMES, masks)
    assert (read_pictures(tmp_path / "images", NAMES) - images).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(read_masks(tmp_path / "masks", NAMES), masks)


def test_a_lacking_picture_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"frame_00000\.png, found none"):
        read_pictures(tmp_path, NAMES)


def test_unreadable_records_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "truth.json")
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(InputError, match="not readable JSON"):
        read_json(tmp_path / "truth.json")


def test_records_leave_no_partial_file(tmp_path: Path):
    write_json(tmp_path / "deep" / "record.json", {"a": [1, 2]})
    assert read_json(tmp_path / "deep" / "record.json") == {"a": [1, 2]}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["record.json"]


def test_only_a_new_or_empty_folder_is_written_into(tmp_path: Path):
    start_folder(tmp_path / "new")
    start_folder(tmp_path / "new")
    (tmp_path / "new" / "photo.png").touch()
    with pytest.raises(InputError, match="holds something"):
        start_folder(tmp_path / "new")


def test_points_are_readable_by_an_independent_reader(tmp_path: Path):
    import trimesh

    points = np.array([[0.5, -1.25, 2.0], [0.0, 1.0, 0.125], [3.0, 0.0, 0.0]], dtype=np.float32)
    colors = np.array([[1.0, 0.0, 0.2], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=np.float32)
    write_points(tmp_path / "cloud.ply", points, colors)
    cloud = trimesh.load(tmp_path / "cloud.ply")
    np.testing.assert_allclose(cloud.vertices, points, atol=1e-5)
    np.testing.assert_array_equal(cloud.colors[:, :3], np.round(colors * 255))


def test_a_video_plays_back_close_to_its_frames(tmp_path: Path):
    import cv2

    brightness = torch.linspace(0.5, 1, 5)[:, None, None, None]
    ramp = brightness * torch.linspace(0, 1, 34).expand(5, 3, 26, 34)
    ramp = ramp * torch.tensor([1.0, 0.6, 0.3])[:, None, None]
    write_video(tmp_path / "clip.mp4", ramp, fps=10)
    reader = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert reader.get(cv2.CAP_PROP_FPS) == 10
    for image in ramp:
        found, frame = reader.read()
        assert found
        assert np.abs(frame[..., ::-1] / 255 - image.permute(1, 2, 0).numpy()).mean() < 0.02
    assert not reader.read()[0]


def test_odd_sides_are_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(InputError, match="even sides, got 33x32"):
        write_video(tmp_path / "clip.mp4", torch.zeros(2, 3, 32, 33))
    assert not (tmp_path / "clip.mp4").exists()
