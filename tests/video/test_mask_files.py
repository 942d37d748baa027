"""Mask files: one a frame, of the shape of the frames, clean of a codec's noise, and the same after writing."""

from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import write_video
from maskedit.editors import InputError, save_image
from maskedit.video.mask_files import mask_to_bytes, read_masks, write_masks
from maskedit.video.timeline import ClipInfo, Timeline, select_frames

SIZE = {"height": 24, "width": 32}


def moving_box(frames: int, height: int, width: int) -> torch.Tensor:
    """A box that goes to the right by a pixel a frame, "frame 1 height width"."""
    masks = torch.zeros(frames, 1, height, width)
    for frame in range(frames):
        masks[frame, :, height // 4 : height // 2, frame + 4 : frame + width // 2] = 1
    return masks


def save(folder: Path, masks: torch.Tensor) -> Path:
    for number, mask in enumerate(masks):
        save_image(mask[None], folder / f"mask {number}.png")
    return folder


def test_noise_counts_for_nothing_and_edges_stay_soft() -> None:
    values = torch.tensor([[0.0, 0.05, 0.06, 0.5, 0.94, 0.96, 1.2]])
    assert mask_to_bytes(values).tolist() == [[0, 0, 15, 128, 240, 255, 255]]
    every = torch.arange(256)[None].float() / 255
    once = mask_to_bytes(every)
    assert torch.equal(mask_to_bytes(once.float() / 255), once)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    masks = moving_box(12, 24, 32)
    read = read_masks(save(tmp_path, masks), frames=12, **SIZE)
    assert torch.equal(read, (masks * 255).byte())


def test_masks_come_back_as_written(tmp_path: Path) -> None:
    masks = mask_to_bytes(torch.rand(5, 1, 24, 32, generator=torch.Generator().manual_seed(0)))
    write_masks(tmp_path, mask_to_bytes(moving_box(7, 24, 32)))
    write_masks(tmp_path, masks)
    assert torch.equal(read_masks(tmp_path, frames=5, **SIZE), masks)


def test_larger_masks_are_averaged_over_areas(tmp_path: Path) -> None:
    masks = moving_box(3, 48, 64)
    read = read_masks(save(tmp_path, masks), frames=3, **SIZE)
    assert torch.equal(read, mask_to_bytes(torch.nn.functional.avg_pool2d(masks, 2)))
    assert ((read > 0) & (read < 255)).any()
    smaller = read_masks(save(tmp_path / "small", moving_box(3, 12, 16)), frames=3, **SIZE)
    assert ((smaller > 127).float().mean() - moving_box(3, 12, 16).mean()).abs() < 0.02


def test_a_video_of_masks_is_cleaned(tmp_path: Path) -> None:
    masks = moving_box(6, 24, 32)
    write_video(tmp_path / "masks.mp4", masks.expand(-1, 3, -1, -1), fps=10)
    read = read_masks(tmp_path / "masks.mp4", frames=6, **SIZE)
    assert ((read > 127) == (masks > 0.5)).float().mean() > 0.995
    assert (read[:, :, 14:] == 0).all()


def test_a_piece_of_a_clip_takes_its_masks_from_those_of_the_source(tmp_path: Path) -> None:
    masks = moving_box(12, 24, 32)
    times = tuple(number / 10 for number in range(12))
    info = ClipInfo(path=tmp_path, kind="video", height=24, width=32, times=times, end=1.2)
    piece = select_frames(info, start=0.3, frames=4, stride=2)
    read = read_masks(save(tmp_path, masks), frames=4, **SIZE, timeline=piece)
    assert torch.equal(read, (masks[3:11:2] * 255).byte())
    write_video(tmp_path / "masks.mp4", masks.expand(-1, 3, -1, -1), fps=10)
    read = read_masks(tmp_path / "masks.mp4", frames=4, **SIZE, timeline=piece)
    assert ((read > 127) == (masks[3:11:2] > 0.5)).float().mean() > 0.99
    with pytest.raises(InputError, match=r"expected 3 masks .* \(or 12, one for each of the source\), got 5"):
        read_masks(save(tmp_path / "5", masks[:5]), frames=3, **SIZE, timeline=select_frames(info, frames=3))
    with pytest.raises(InputError, match=r"expected 3 masks in .*, one for each frame, got 5"):
        read_masks(tmp_path / "5", frames=3, **SIZE, timeline=Timeline.steady(3, 10.0))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "masks", moving_box(38, 24, 32))
    save(tmp_path / "black", torch.full((3, 1, 24, 32), 0.04))
    (tmp_path / "empty").mkdir()
    for name, frames, size, expected in (
        ("masks", 40, SIZE, "expected 40 masks in .*masks, one for each frame, got 38"),
        ("masks", 38, {"height": 32, "width": 32}, "shape of the frames, 32x32, got 32x24 in .*masks, mask 0.png"),
        ("black", 3, SIZE, "all black"),
        ("empty", 3, SIZE, "expected pictures"),
        ("nowhere", 3, SIZE, "no such folder or video"),
    ):
        with pytest.raises(InputError, match=expected) as caught:
            read_masks(tmp_path / name, frames=frames, **size)
        assert "\n" not in str(caught.value)
