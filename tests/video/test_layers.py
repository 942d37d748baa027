"""Layers: shares that add up, files and phrases side by side, and phrases that need not be seen in every key frame."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import Clip, render, render_clip, sample_clip
from maskedit.editors import Grounder, InputError, NothingFoundError, SessionError
from maskedit.editors.parts.grounding import Found
from maskedit.video.flow import FlowConfig, estimate_flow
from maskedit.video.layers import (
    LayerMasks,
    LayersConfig,
    find_key_masks,
    key_frames,
    make_layers,
    read_layers,
    write_layers,
)
from maskedit.video.mask_files import write_masks


class TrueGrounder:
    """Knows the true masks of a clip by its pictures; blind where it is told to be."""

    def __init__(
        self, frames: torch.Tensor, masks: dict[str, torch.Tensor], *, blind: Sequence[tuple[str, int]] = ()
    ) -> None:
        self.frames, self.masks, self.blind = frames, masks, set(blind)
        self.asked: list[int] = []

    def ground(self, image: torch.Tensor, phrases: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        assert len(image) == 1
        frame = int((self.frames.float() / 255 - image).abs().mean((1, 2, 3)).argmin())
        self.asked.append(frame)
        return (tuple(self._find(phrase, frame) for phrase in phrases),)

    def _find(self, phrase: str, frame: int) -> Found:
        if phrase not in self.masks or (phrase, frame) in self.blind:
            raise NothingFoundError(phrase, score=frame / 100, threshold=0.3)
        mask = self.masks[phrase][frame].float()
        return Found(phrase=phrase, mask=mask, boxes=torch.zeros(1, 4), scores=torch.ones(1))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(sample_clip("test", 0, frames=9), height=128, samples=2)


@pytest.fixture(scope="module")
def frames(clip: Clip) -> torch.Tensor:
    return (clip.source.frames.clamp(0, 1) * 255).round().byte()


@pytest.fixture(scope="module")
def truth(clip: Clip) -> dict[str, torch.Tensor]:
    """Masks of the blocks, "frame 1 height width"."""
    index = render(clip.spec.scenes(), clip.spec.cameras, height=128).index
    return {f"block {block}": (index == block)[:, None] for block in range(len(clip.spec.scene.blocks))}


def overlap(one: torch.Tensor, two: torch.Tensor) -> float:
    return ((one & two).sum() / (one | two).sum()).item()


def test_without_wishes_there_are_no_layers(frames: torch.Tensor) -> None:
    assert make_layers(LayersConfig(), frames) is None


def test_shares_add_up_and_the_later_layer_wins() -> None:
    values = torch.zeros(2, 3, 1, 4, 4, dtype=torch.uint8)
    values[0, :, :, :3] = 255
    values[1, :, :, 2:] = 255
    values[1, 1, :, 0, 0] = 51
    layers = LayerMasks(values=values, names=("low", "top"))
    shares = layers.shares()
    assert shares.shape == (3, 3, 1, 4, 4)
    torch.testing.assert_close(shares.sum(0), torch.ones(3, 1, 4, 4))
    background, low, top = shares[:, 0, 0, :, 0]
    assert top.tolist() == [0, 0, 1, 1] and low.tolist() == [1, 1, 0, 0] and not background.any()
    torch.testing.assert_close(shares[:, 1, 0, 0, 0], torch.tensor([0.0, 0.8, 0.2]))
    assert torch.equal(layers.shares(slice(1, 3)), shares[:, 1:])


def test_key_frames_hold_the_first_and_the_last() -> None:
    assert key_frames(10, 4) == (0, 4, 8, 9)
    assert key_frames(9, 4) == (0, 4, 8)
    assert key_frames(2, 100) == (0, 1)


def test_phrases_become_masks_of_all_frames(frames: torch.Tensor, truth: dict[str, torch.Tensor]) -> None:
    grounder = TrueGrounder(frames, truth)
    assert isinstance(grounder, Grounder)
    flow = estimate_flow(frames, FlowConfig(method="dis"))
    config = LayersConfig(phrases=("block 0", "block 1"), key_every=4)
    layers = make_layers(config, frames, flow=flow.between, grounder=grounder)
    assert layers.names == config.phrases and layers.values.shape == (2, 9, 1, 128, 128)
    assert sorted(set(grounder.asked)) == [0, 4, 8]
    for name, values in zip(layers.names, layers.values, strict=True):
        for frame in range(9):
            assert overlap(values[frame] > 127, truth[name][frame]) > (0.85 if frame % 4 else 0.999)


def test_a_phrase_missed_in_some_key_frames_is_carried_over(
    frames: torch.Tensor, truth: dict[str, torch.Tensor]
) -> None:
    flow = estimate_flow(frames, FlowConfig(method="dis"))
    config = LayersConfig(phrases=("block 0",), key_every=4)
    for blind in ([0], [4], [8], [0, 8]):
        grounder = TrueGrounder(frames, truth, blind=[("block 0", frame) for frame in blind])
        layers = make_layers(config, frames, flow=flow.between, grounder=grounder)
        for frame in range(9):
            assert overlap(layers.values[0, frame] > 127, truth["block 0"][frame]) > 0.75


def test_a_phrase_found_nowhere_is_an_error_with_the_best_score(
    frames: torch.Tensor, truth: dict[str, torch.Tensor]
) -> None:
    grounder = TrueGrounder(frames, truth)
    with pytest.raises(NothingFoundError, match=r"'a dog' \(best score 0.08, threshold 0.3\)"):
        find_key_masks(frames, "a dog", grounder, every=4)


def test_files_lie_below_phrases(frames: torch.Tensor, truth: dict[str, torch.Tensor], tmp_path: Path) -> None:
    flow = estimate_flow(frames, FlowConfig(method="dis"))
    masks = tmp_path / "floor"
    write_masks(masks, torch.full((9, 1, 128, 128), 255, dtype=torch.uint8))
    config = LayersConfig(masks=(masks,), phrases=("block 0",))
    layers = make_layers(config, frames, flow=flow.between, grounder=TrueGrounder(frames, truth))
    assert layers.names == ("floor", "block 0")
    background, floor, block = layers.shares()
    assert not background.any()
    torch.testing.assert_close(floor, 1 - block)
    assert (floor[0] == 0).equal(truth["block 0"][0])


def test_layers_come_back_as_written(tmp_path: Path) -> None:
    values = (torch.rand(2, 4, 1, 12, 16, generator=torch.Generator().manual_seed(0)) * 255).byte()
    values = torch.where(values > 12, values, 0).where(values < 243, 255).byte()
    layers = LayerMasks(values=values, names=("a/red cube", "x"))
    size = {"frames": 4, "height": 12, "width": 16}
    with pytest.raises(SessionError, match="make the layer masks anew"):
        read_layers(tmp_path, **size)
    write_layers(tmp_path, layers)
    back = read_layers(tmp_path, **size)
    assert back.names == layers.names and torch.equal(back.values, layers.values)


def test_impossible_wishes_are_refused(frames: torch.Tensor) -> None:
    with pytest.raises(InputError, match="need a segmenter and flow"):
        make_layers(LayersConfig(phrases=("a dog",)), frames)
    with pytest.raises(ValueError, match="key_every must be at least 1, got 0"):
        LayersConfig(key_every=0)
    for threshold in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"threshold must be above 0 and below 1, got {threshold:g}"):
            LayersConfig(threshold=threshold)
