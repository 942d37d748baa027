"""Clips on disk come back as they were, and are where the layout says."""

from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import Clip, read_clip, render_clip, sample_clip, write_clip
from maskedit.editors import InputError


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(sample_clip("validation", 1, frames=4, edits=2, mirror=True), height=32, width=40)


@pytest.fixture(scope="module")
def folder(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("clips") / "clip"
    write_clip(home, clip, fps=8)
    return home


def test_a_clip_comes_back_as_it_was(folder: Path, clip: Clip):
    back = read_clip(folder)
    assert back.spec == clip.spec
    assert torch.equal(back.masks, clip.masks)
    assert torch.equal(back.changed, clip.changed)
    for one, two in ((back.source, clip.source), (back.edited, clip.edited)):
        assert (one.frames - two.frames).abs().max() <= 0.5 / 255 + 1e-6
        for name in ("depth", "forward", "backward", "forward_occluded", "backward_occluded"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name


def test_the_layout_is_the_one_described(folder: Path):
    assert sorted(path.name for path in folder.iterdir()) == ["clip.mp4", "edited", "edited.mp4", "frames", "truth"]
    assert [p.name for p in sorted((folder / "frames").iterdir())] == [f"frame_{i:05d}.png" for i in range(4)]
    assert len(list((folder / "truth" / "masks" / "instruction_1").iterdir())) == 4


def test_the_videos_show_the_frames(folder: Path, clip: Clip):
    import cv2

    for name, footage in (("clip.mp4", clip.source), ("edited.mp4", clip.edited)):
        reader = cv2.VideoCapture(str(folder / name))
        assert reader.get(cv2.CAP_PROP_FPS) == 8
        for frame in footage.frames:
            found, shown = reader.read()
            assert found
            assert (torch.from_numpy(shown[..., ::-1] / 255.0).permute(2, 0, 1) - frame).abs().mean() < 0.04
        assert not reader.read()[0]


def test_nothing_is_overwritten_and_incomplete_folders_are_refused(folder: Path, clip: Clip, tmp_path: Path):
    with pytest.raises(InputError, match="holds something"):
        write_clip(folder, clip)
    with pytest.raises(InputError, match="no such file"):
        read_clip(tmp_path)
    write_clip(tmp_path / "cut", clip)
    (tmp_path / "cut" / "truth" / "edited.npz").unlink()
    with pytest.raises(InputError, match="incomplete"):
        read_clip(tmp_path / "cut")
