"""Originals and what is trained on in their place; refusals that both data managers share."""

from pathlib import Path

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch._subclasses.fake_tensor import FakeTensorMode

from maskedit.editors import InputError
from maskedit.plugin.working_set import (
    WorkingSet,
    as_stack,
    check_photo_sizes,
    check_photos_fit,
    unreadable,
)


def photos(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 4, 5, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_it_shows_the_photos_until_an_edit_is_shown() -> None:
    originals, trained = photos(), torch.zeros(3, 4, 5, 3)
    working = WorkingSet(originals.clone(), trained)
    assert working.shape == (3, 4, 5)
    for view in range(3):
        assert torch.equal(working.shown(view), originals[view])
    edit = torch.full((4, 5, 3), 51, dtype=torch.uint8)
    working.show(1, edit)
    assert torch.equal(working.shown(1), edit)
    # The tensor that trains is the one that was handed over.
    torch.testing.assert_close(trained[1], torch.full((4, 5, 3), 0.2))
    torch.testing.assert_close(working.picture(1), trained[1])
    assert torch.equal(working.original(1), originals[1])
    working.show_original(1)
    assert torch.equal(working.shown(1), originals[1])


def test_originals_are_copies_and_change_on_request_alone() -> None:
    originals = photos()
    working = WorkingSet(originals.clone(), torch.zeros(3, 4, 5, 3))
    working.original(0).zero_()
    assert torch.equal(working.original(0), originals[0])
    edit = torch.full((4, 5, 3), 7, dtype=torch.uint8)
    working.replace_original(0, edit)
    assert torch.equal(working.original(0), edit)
    assert torch.equal(working.shown(0), edit)


def test_originals_lie_in_main_memory_wherever_training_happens() -> None:
    # Tensors that know their device and hold no numbers need no GPU.
    with FakeTensorMode():
        pixels = torch.zeros(3, 4, 5, 3, dtype=torch.uint8, device="cuda")
        working = WorkingSet(pixels, torch.zeros(3, 4, 5, 3, device="cuda"))
        assert working.original(0).device.type == working.shown(0).device.type == "cpu"
        edit = torch.zeros(4, 5, 3, dtype=torch.uint8)
        # An edit mixes what it drew with the photo.
        assert (working.original(0) + edit).shape == edit.shape
        working.replace_original(1, edit)
        assert working.original(1).device.type == "cpu"
        assert working.picture(1).device.type == "cuda"


def test_edits_of_another_size_are_refused() -> None:
    working = WorkingSet(photos(), torch.zeros(3, 4, 5, 3))
    with pytest.raises(InputError, match=r"expected an edit of shape \(4, 5, 3\), got \(2, 5, 3\)"):
        working.show(0, torch.zeros(2, 5, 3, dtype=torch.uint8))


def cameras(*sizes: tuple[int, int]) -> Cameras:
    poses = torch.eye(4)[None, :3].repeat(len(sizes), 1, 1)
    width, height = (torch.tensor([[size[axis]] for size in sizes]) for axis in (0, 1))
    return Cameras(camera_to_worlds=poses, fx=4.0, fy=4.0, cx=2.0, cy=2.0, width=width, height=height)


def test_scenes_that_cannot_be_trained_on_are_refused() -> None:
    check_photo_sizes([Path("a"), Path("b")], cameras((5, 4), (5, 4)))
    with pytest.raises(InputError, match="one size, got 5x4 and 6x4"):
        check_photo_sizes([Path("a"), Path("b")], cameras((6, 4), (5, 4)))
    with pytest.raises(InputError, match="found none"):
        check_photo_sizes([], cameras((5, 4)))
    check_photos_fit(photos(), cameras((5, 4)))
    with pytest.raises(InputError, match="photos have 5x4 pixels and their cameras 5x8"):
        check_photos_fit(photos(), cameras((5, 8)))
    with pytest.raises(InputError, match="transparency"):
        check_photos_fit(torch.zeros(1, 4, 5, 4), cameras((5, 4)))


def test_photos_are_stacked_if_they_are_of_one_size() -> None:
    assert torch.equal(as_stack(list(photos())), photos())
    with pytest.raises(InputError, match="one size"):
        as_stack([torch.zeros(4, 5, 3), torch.zeros(4, 6, 3)])


def test_what_cannot_be_read_is_said_in_one_line() -> None:
    assert str(unreadable(Path("there"), KeyError("w"))).startswith("cannot read the scene at there (KeyError: 'w')")
