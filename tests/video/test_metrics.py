"""How steady clips are along their motion, against clips whose unsteadiness is known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from maskedit.bench.blocks import render_clip, sample_clip, warp_back
from maskedit.video.metrics import Mean, flicker, flicker_difference, psnr, warp_difference, warp_error


def sliding_clip(frames: int = 5, shift: tuple[int, int] = (2, -1)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A picture that slides by whole pixels: frames, flow there and back, and which of it stays in the picture."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(1, 3, 64, 64, generator=generator)
    x, y = shift
    views = [wide[..., 16 - y * t : 40 - y * t, 16 - x * t : 48 - x * t] for t in range(frames)]
    forward = torch.tensor([float(x), float(y)]).view(1, 2, 1, 1).expand(frames - 1, 2, 24, 32)
    inside = torch.zeros(frames - 1, 24, 32, dtype=torch.bool)
    inside[:, 3:-3, 3:-3] = True
    return torch.cat(views), forward, -forward, inside


def steady(frames: Tensor, forward: Tensor, backward: Tensor, trusted: Tensor) -> tuple[float, float]:
    return warp_error(frames, forward, trusted), flicker(frames, forward, backward, trusted, trusted)


def test_a_sliding_picture_is_perfectly_steady_where_it_is_trusted():
    frames, forward, backward, inside = sliding_clip()
    assert steady(frames, forward, backward, inside) == (0.0, 0.0)
    assert warp_error(frames, forward, torch.ones_like(inside)) > 0.01
    assert warp_error(frames, backward, inside) > 0.2


def test_drift_is_a_warp_error_and_no_flicker():
    frames, *motion = sliding_clip()
    drifting = frames * 0.5 + 0.05 * torch.arange(5.0).view(-1, 1, 1, 1)
    error, to_and_fro = steady(drifting, *motion)
    assert error == pytest.approx(0.05, abs=1e-6)
    assert to_and_fro == pytest.approx(0, abs=1e-6)


def test_colours_that_alternate_by_some_amount_flicker_by_that_amount():
    frames, *motion = sliding_clip()
    alternating = frames * 0.5 + 0.1 * (torch.arange(5.0) % 2).view(-1, 1, 1, 1)
    assert steady(alternating, *motion) == pytest.approx((0.1, 0.1), abs=1e-6)


def test_only_trusted_pixels_count():
    frames, forward, backward, inside = sliding_clip()
    spoiled = frames.clone()
    spoiled[2, :, 10, 12] += 0.5
    # Spoils its own pixel, and the one that is followed to it.
    blind = inside.clone()
    blind[2, 10, 12] = blind[1, 11, 10] = False
    assert warp_error(spoiled, forward, inside) > 0
    assert warp_error(spoiled, forward, blind) == 0
    assert math.isnan(warp_error(frames, forward, torch.zeros_like(inside)))
    assert math.isnan(flicker(frames[:2], forward[:1], backward[:1], inside[:1], inside[:1]))


def test_flicker_takes_each_pair_of_its_own_direction():
    frames, forward, backward, inside = sliding_clip()
    only_first = inside & (torch.arange(4) == 0).view(-1, 1, 1)
    nowhere = torch.zeros_like(inside)
    spoiled = frames.clone()
    spoiled[0] += 0.3
    # Of frame 0 only the way back from frame 1 tells.
    assert flicker(spoiled, forward, backward, inside, only_first) == pytest.approx(0.15, abs=1e-6)
    assert math.isnan(flicker(spoiled, forward, backward, nowhere, inside))
    one = flicker_difference(spoiled[:1], spoiled[1:2], spoiled[2:3], backward[:1], forward[1:2])
    assert one[0, :, 3:-3, 3:-3].mean() == pytest.approx(0.15, abs=1e-6)


def test_bytes_count_as_shares_of_255(tolerance: Callable):
    frames, *motion = sliding_clip()
    alternating = frames * 0.5 + 0.1 * (torch.arange(5.0) % 2).view(-1, 1, 1, 1)
    in_bytes = (alternating * 255).round().to(torch.uint8)
    assert steady(in_bytes, *motion) == pytest.approx(steady(in_bytes.float() / 255, *motion))
    assert psnr(in_bytes, alternating) == pytest.approx(psnr(in_bytes.float() / 255, alternating))


def test_warp_error_equals_a_sum_by_another_sampler():
    clip = render_clip(sample_clip("validation", 0, frames=12), height=32).source
    visible = ~clip.forward_occluded
    fetched = warp_back(clip.frames[1:], clip.forward)
    independent = (fetched - clip.frames[:-1]).abs().mean(1)[visible].mean()
    assert warp_error(clip.frames, clip.forward, visible) == pytest.approx(float(independent), rel=1e-4)
    # A clip's true motion explains it better than none.
    assert independent < warp_error(clip.frames, torch.zeros_like(clip.forward), visible)


def test_parts_fed_one_by_one_give_the_mean_of_the_whole():
    clip = render_clip(sample_clip("validation", 1, frames=4), height=32).source
    visible, mean = ~clip.forward_occluded, Mean()
    for t in range(3):
        rows = slice(t, t + 1)
        mean.add(warp_difference(clip.frames[rows], clip.frames[t + 1 : t + 2], clip.forward[rows]), visible[rows])
    assert mean.value == pytest.approx(warp_error(clip.frames, clip.forward, visible))
    assert math.isnan(Mean().value)


def test_psnr_is_a_value_per_frame():
    truth = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    frames = truth.clone()
    frames[1] += 0.1
    frames[2, :, :4] += 0.01
    upper = torch.zeros(3, 8, 8, dtype=torch.bool)
    upper[1:, :4] = True
    assert psnr(frames, truth)[:2] == pytest.approx([math.inf, 20])
    assert psnr(frames, truth, upper)[1:] == pytest.approx([20, 40], abs=1e-3)
    assert math.isnan(psnr(frames, truth, upper)[0])
    assert psnr(frames, truth, ~upper)[2] == math.inf
