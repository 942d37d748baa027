"""Originals and working set: order, exactness, subsets and refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from maskedit.editors import InputError


def photo(scene: Path, number: int) -> torch.Tensor:
    return torch.from_numpy(np.array(Picture.open(scene / "images" / f"{number}.png")))


def test_photos_lie_in_the_order_of_their_cameras(load: Any, scene: Path) -> None:
    data = load()
    assert data.views == (0, 1, 2, 3)
    for view in range(4):
        assert data.photo_name(view) == f"{view}.png"
        assert torch.equal(data.original(view), photo(scene, view))
        assert torch.equal(data.shown(view), photo(scene, view))
        assert torch.equal(data.camera(view).camera_to_worlds[0], data.train_dataset.cameras.camera_to_worlds[view])


def test_edits_train_and_originals_stay(load: Any, scene: Path) -> None:
    data = load()
    edit = torch.full((16, 16, 3), 77, dtype=torch.uint8)
    data.show(2, edit)
    assert torch.equal(data.shown(2), edit)
    assert torch.equal(data.batch["image"][2], torch.full((16, 16, 3), 77) / 255)
    copy = data.original(2)
    copy.zero_()
    assert torch.equal(data.original(2), photo(scene, 2))
    _, batch = data.next_train(0)
    in_view = batch["indices"][:, 0] == 2
    assert in_view.any()
    torch.testing.assert_close(batch["image"][in_view], torch.full((int(in_view.sum()), 3), 77 / 255))
    data.show_original(2)
    assert torch.equal(data.shown(2), photo(scene, 2))
    with pytest.raises(InputError, match="shape"):
        data.show(2, edit[:8])


def test_an_earlier_edit_can_stand_for_the_photo(load: Any) -> None:
    data = load()
    edit = torch.full((16, 16, 3), 5, dtype=torch.uint8)
    data.replace_original(1, edit)
    assert torch.equal(data.original(1), edit)
    assert torch.equal(data.shown(1), edit)


def test_a_subset_maps_to_its_cameras_and_depends_on_the_seed(load: Any, scene: Path) -> None:
    subsets = set()
    for seed in range(6):
        data = load(train_num_images_to_sample_from=2, subset_seed=seed)
        assert data.views == tuple(sorted(data.views))
        assert load(train_num_images_to_sample_from=2, subset_seed=seed).views == data.views
        for view, camera in enumerate(data.views):
            assert torch.equal(data.original(view), photo(scene, camera))
            assert torch.equal(
                data.camera(view).camera_to_worlds[0], data.train_dataset.cameras.camera_to_worlds[camera]
            )
        _, batch = data.next_train(0)
        assert set(batch["indices"][:, 0].tolist()) <= set(data.views)
        subsets.add(data.views)
    assert len(subsets) > 1


def test_patches_are_sampled_while_editing_alone(load: Any) -> None:
    data = load(patch_size=4)
    data.uses_patches = True
    _, batch = data.next_train(0)
    corners = batch["indices"].view(4, 4, 4, 3)
    assert (corners[:, 3, 3, 1:] - corners[:, 0, 0, 1:] == 3).all()
    data.uses_patches = False
    _, batch = data.next_train(0)
    corners = batch["indices"].view(4, 4, 4, 3)
    assert not (corners[:, 3, 3, 1:] - corners[:, 0, 0, 1:] == 3).all()


def copy_scene(scene: Path, folder: Path, change: Callable[[Path, dict[str, Any]], None]) -> Path:
    (folder / "images").mkdir(parents=True)
    for path in (scene / "images").iterdir():
        (folder / "images" / path.name).write_bytes(path.read_bytes())
    meta = json.loads((scene / "transforms.json").read_text())
    change(folder, meta)
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def test_mixed_sizes_are_refused(load: Any, scene: Path, tmp_path: Path) -> None:
    def change(folder: Path, meta: dict[str, Any]) -> None:
        Picture.new("RGB", (20, 12)).save(folder / "images" / "3.png")
        camera = {name: meta.pop(name) for name in ("w", "h", "fl_x", "fl_y", "cx", "cy")}
        for number, frame in enumerate(meta["frames"]):
            frame.update(camera | ({"w": 20, "h": 12} if number == 3 else {}))

    with pytest.raises(InputError, match="one size, got 16x16 and 20x12"):
        load(copy_scene(scene, tmp_path / "mixed", change))


def test_a_photo_of_another_size_is_refused(load: Any, scene: Path, tmp_path: Path) -> None:
    def change(folder: Path, meta: dict[str, Any]) -> None:
        Picture.new("RGB", (20, 12)).save(folder / "images" / "3.png")

    with pytest.raises(InputError, match="one size"):
        load(copy_scene(scene, tmp_path / "one", change))


def test_photos_of_another_size_than_their_camera_are_refused(load: Any, scene: Path, tmp_path: Path) -> None:
    def change(folder: Path, meta: dict[str, Any]) -> None:
        meta |= {"w": 32, "h": 32}

    with pytest.raises(InputError, match=r"16x16.*32x32"):
        load(copy_scene(scene, tmp_path / "wrong", change))


def test_transparency_is_refused(load: Any, scene: Path, tmp_path: Path) -> None:
    def change(folder: Path, meta: dict[str, Any]) -> None:
        for path in (folder / "images").iterdir():
            Picture.open(path).convert("RGBA").save(path)

    with pytest.raises(InputError, match="transparency"):
        load(copy_scene(scene, tmp_path / "clear", change))


def test_scenes_that_are_not_there_are_refused(load: Any, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the scene"):
        load(tmp_path / "nowhere")

    def drop(folder: Path, meta: dict[str, Any]) -> None:
        meta["frames"] = []

    with pytest.raises(InputError, match=r"cannot read the scene|found none"):
        load(copy_scene(scene, tmp_path / "empty", drop))

    def lose(folder: Path, meta: dict[str, Any]) -> None:
        (folder / "images" / "1.png").unlink()

    with pytest.raises(InputError, match="cannot read the scene"):
        load(copy_scene(scene, tmp_path / "lost", lose))


def test_settings_that_cannot_work_are_refused(load: Any) -> None:
    with pytest.raises(InputError, match="patch-size"):
        load(patch_size=32)
    with pytest.raises(InputError, match="repeat"):
        load(train_num_times_to_repeat_images=5)
