"""Whole pictures: the same order in every run, the picture a sweep asks for, and the refusals of the other manager."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from PIL import Image as Picture

from maskedit.editors import InputError
from maskedit.plugin.splat_data import MaskeditSplatDataManager

Load = Callable[..., MaskeditSplatDataManager]


@pytest.fixture
def pictures(splats: Any, scene: Path) -> Load:
    """Read the toy scene, or another folder: `pictures(folder, **options)`."""

    def build(folder: Path = scene, world_size: int = 1, **options: Any) -> MaskeditSplatDataManager:
        data = splats().pipeline.datamanager
        data.data = folder
        for name, value in options.items():
            setattr(data, name, value)
        return data.setup(device="cpu", test_mode="val", world_size=world_size, local_rank=0)

    return build


def photo(scene: Path, number: int) -> torch.Tensor:
    return torch.from_numpy(np.array(Picture.open(scene / "images" / f"{number}.png")))


@pytest.mark.parametrize("stored", ["uint8", "float32"])
def test_photos_lie_in_the_order_of_their_cameras(pictures: Load, scene: Path, stored: str) -> None:
    data = pictures(cache_images_type=stored)
    assert data.views == (0, 1, 2, 3)
    assert data.photo_shape == (4, 16, 16)
    assert data.get_train_rays_per_batch() == 256
    for view in range(4):
        assert data.photo_name(view) == f"{view}.png"
        assert torch.equal(data.original(view), photo(scene, view))
        assert torch.equal(data.shown(view), photo(scene, view))
        assert torch.equal(data.camera(view).camera_to_worlds[0], data.train_dataset.cameras.camera_to_worlds[view])


def test_each_round_shows_each_picture_once_in_an_order_of_its_own(pictures: Load) -> None:
    data, again = pictures(), pictures()
    rounds = [[data.view_at(step) for step in range(start, start + 4)] for start in range(0, 80, 4)]
    assert all(sorted(each) == [0, 1, 2, 3] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 5
    # A run that is resumed asks for any step at once.
    assert [again.view_at(step) for step in range(40, 44)] == rounds[10]
    other = pictures(train_cameras_sampling_seed=1)
    assert [other.view_at(step) for step in range(80)] != [data.view_at(step) for step in range(80)]


def test_a_step_gets_the_working_picture_and_its_camera(pictures: Load) -> None:
    data = pictures()
    edit = torch.full((16, 16, 3), 51, dtype=torch.uint8)
    data.show(2, edit)
    for step in range(4):
        camera, batch = data.next_train(step)
        view = data.view_at(step)
        assert torch.equal(camera.camera_to_worlds, data.camera(view).camera_to_worlds)
        assert camera.metadata == {"cam_idx": view}
        assert torch.equal(batch["image"], data.shown(view) / 255)
        assert batch["image_idx"] == view
    data.focus = 2
    camera, batch = data.next_train(0)
    assert camera.metadata == {"cam_idx": 2}
    torch.testing.assert_close(batch["image"], torch.full((16, 16, 3), 0.2))


@pytest.mark.parametrize("lens", [("OPENCV", -0.2), ("OPENCV_FISHEYE", -0.05)])
def test_photos_freed_of_their_lens_have_cameras_without_one(
    pictures: Load, scene: Path, tmp_path: Path, lens: tuple[str, float]
) -> None:
    folder = tmp_path / "lens"
    shutil.copytree(scene, folder)
    told = json.loads((folder / "transforms.json").read_text())
    told |= {"camera_model": lens[0], "k1": lens[1], "k2": 0.0, "k3": 0.0, "k4": 0.0, "p1": 0.0, "p2": 0.0}
    (folder / "transforms.json").write_text(json.dumps(told))
    data = pictures(folder)
    camera = data.camera(1)
    assert float(camera.fx) != 16
    height, width = data.photo_shape[1:]
    assert data.original(1).shape != photo(scene, 1).shape or not torch.equal(data.original(1), photo(scene, 1))
    seen, _ = data.fixed_indices_eval_dataloader[1]
    for each in (camera, data.next_train(0)[0], seen):
        assert each.distortion_params is None
        assert int(each.camera_type) == CameraType.PERSPECTIVE.value
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    local = rays.directions @ camera.camera_to_worlds[0, :, :3]
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    torch.testing.assert_close(camera.fx * local[..., 0] / -local[..., 2] + camera.cx, columns)
    torch.testing.assert_close(camera.fy * local[..., 1] / local[..., 2] + camera.cy, rows)


def test_evaluation_reads_photos_of_its_own(pictures: Load, scene: Path) -> None:
    data = pictures()
    data.show(0, torch.zeros(16, 16, 3, dtype=torch.uint8))
    seen = [batch["image"] for _, batch in data.fixed_indices_eval_dataloader]
    assert torch.equal(seen[0], photo(scene, 0))


def test_rendering_reads_no_photos(splats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nerfstudio.data.datasets.base_dataset.InputDataset.get_data", None)
    data = splats().pipeline.datamanager.setup(device="cpu", test_mode="inference", world_size=1, local_rank=0)
    assert data.views == ()


def test_settings_and_scenes_that_cannot_work_are_refused(pictures: Load, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train-cameras-sampling-strategy"):
        pictures(train_cameras_sampling_strategy="fps")
    with pytest.raises(InputError, match="num-devices 1"):
        pictures(world_size=2)
    with pytest.raises(InputError, match="cannot read the scene"):
        pictures(tmp_path / "nowhere")
    folder = tmp_path / "one"
    shutil.copytree(scene, folder)
    Picture.new("RGB", (20, 12)).save(folder / "images" / "3.png")
    with pytest.raises(InputError, match=r"cannot read the scene.*does not match the camera"):
        pictures(folder)
