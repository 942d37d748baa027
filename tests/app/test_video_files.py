"""Where runs and results of clips lie, and masks painted on a frame."""

from pathlib import Path

import pytest
import torch

from maskedit.app.video_files import (
    Places,
    check_frame_mask,
    check_layers,
    check_masks,
    find_clip,
    find_run,
    name_of_clip,
    place,
    place_result,
    read_frame_mask,
)
from maskedit.editors import InputError, save_image
from maskedit.video.frame_mask import FrameMask
from maskedit.video.layers import LayersConfig
from maskedit.video.options import VideoConfig
from maskedit.video.stored import StoredClip
from maskedit.video.timeline import Timeline


def test_a_result_is_named_after_the_clip(tmp_path: Path) -> None:
    out, clip = tmp_path / "out", tmp_path / "in" / "dog.v2.mov"
    expected = Places(run=out / "dog.v2_run", result=out / "dog.v2_edited.mp4")
    assert place(clip, output=out, run=None, kind="mp4") == expected
    assert place_result("dog", out, "gif") == out / "dog_edited.gif"
    assert place_result("dog", out, "png") == out / "dog_edited"
    folder = tmp_path / "frames.v2"
    folder.mkdir()
    assert name_of_clip(folder) == "frames.v2"


def test_a_result_may_be_named_itself(tmp_path: Path) -> None:
    named = place(tmp_path / "dog.mp4", output=tmp_path / "out" / "x.GIF", run=tmp_path / "r", kind="mp4")
    assert named == Places(run=tmp_path / "r", result=tmp_path / "out" / "x.GIF")
    (tmp_path / "odd.name").mkdir()
    assert place_result("dog", tmp_path / "odd.name", "mp4") == tmp_path / "odd.name" / "dog_edited.mp4"


def test_nothing_is_replaced_by_mistake(tmp_path: Path) -> None:
    clip = tmp_path / "dog.mp4"
    clip.write_bytes(b"x")
    with pytest.raises(InputError, match="would replace the clip"):
        place(clip, output=clip, run=None, kind="mp4")
    with pytest.raises(InputError, match=r"to end in \.mp4 or \.gif, or to be a folder, got dog\.webm"):
        place(clip, output=tmp_path / "dog.webm", run=None, kind="mp4")
    with pytest.raises(InputError, match="choose another --output"):
        place(clip, output=clip / "deeper", run=None, kind="mp4")
    with pytest.raises(InputError, match="choose another --run"):
        place(clip, output=tmp_path, run=clip / "run", kind="mp4")


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a clip, got none: call me so"):
        find_clip(None, "call me so")
    with pytest.raises(InputError, match="found no such file"):
        find_clip(tmp_path / "none.mp4", "")
    assert find_clip(tmp_path, "") == tmp_path
    with pytest.raises(InputError, match="expected a run folder, got none: call me so"):
        find_run(None, "call me so")
    with pytest.raises(InputError, match="found none: make one"):
        find_run(tmp_path, "")
    (tmp_path / "run.json").touch()
    assert find_run(tmp_path, "") == tmp_path


def test_masks_belong_to_a_frame(tmp_path: Path) -> None:
    assert read_frame_mask(None, None) is None
    with pytest.raises(InputError, match="expected --mask beside --mask-frame"):
        read_frame_mask(None, 3)
    path = save_image(torch.ones(1, 1, 6, 8), tmp_path / "mask.png")
    painted = read_frame_mask(path, 3)
    assert painted is not None and painted.frame == 3
    assert torch.equal(painted.mask, torch.ones(1, 1, 6, 8))
    with pytest.raises(InputError, match="--mask-frame must be at least 0, got -1"):
        read_frame_mask(path, -1)
    with pytest.raises(InputError, match="black everywhere"):
        read_frame_mask(save_image(torch.zeros(1, 1, 6, 8), tmp_path / "black.png"), None)


def test_masks_are_checked_against_the_clip(tmp_path: Path) -> None:
    clip = StoredClip(folder=tmp_path, timeline=Timeline.steady(4, 12), height=48, width=64)
    for height, width in ((48, 64), (96, 128), (47, 63)):
        check_frame_mask(FrameMask(frame=3, mask=torch.ones(1, 1, height, width)), clip)
    with pytest.raises(InputError, match="of the proportions of frames, 64x48 pixels, got 48x64"):
        check_frame_mask(FrameMask(frame=0, mask=torch.ones(1, 1, 64, 48)), clip)
    with pytest.raises(InputError, match="--mask-frame must be from 0 to 3, got 4"):
        check_frame_mask(FrameMask(frame=4, mask=torch.ones(1, 1, 48, 64)), clip)


def test_layers_are_counted_with_the_background() -> None:
    config = VideoConfig(layers=LayersConfig(masks=(Path("a"),), phrases=("dog",)))
    check_layers((), config)
    check_layers((0, 2), config)
    for chosen in ((3,), (0, -1)):
        with pytest.raises(InputError, match=r"expected --only-layer from 0 to 2, got "):
            check_layers(chosen, config)


def test_masks_of_layers_must_be_there(tmp_path: Path) -> None:
    check_masks((tmp_path,))
    with pytest.raises(InputError, match=r"expected masks at .*none, found no such folder .*--layers\.masks"):
        check_masks((tmp_path, tmp_path / "none"))
