"""Fitting a clip."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from maskedit.editors import InputError, SessionError
from maskedit.video.fields import DenseDeformation
from maskedit.video.fit import ClipFit, FitProgress, fit_clip, shape_for
from maskedit.video.fit_options import FitConfig
from maskedit.video.flow import ClipFlow

FAST = FitConfig(steps=60, frames_per_step=2)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A smooth picture with detail."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)


def translated(frames: int = 5, step: int = 2, height: int = 32, width: int = 48) -> tuple[torch.Tensor, ClipFlow]:
    """A clip of one picture that moves to the left by whole pixels, with its exact flow."""
    wide = picture(height, width + frames * step)
    clip = torch.cat([wide[..., i * step : i * step + width] for i in range(frames)])
    flow = torch.zeros(frames - 1, 2, height, width)
    flow[:, 0] = -step
    trusted = torch.ones(frames - 1, height, width, dtype=torch.bool)
    there, back = trusted.clone(), trusted.clone()
    there[..., :step], back[..., -step:] = False, False
    exact = ClipFlow(forward=flow, backward=-flow, forward_confident=there, backward_confident=back, method="exact")
    return (clip * 255).round().to(torch.uint8), exact


def test_flow_alone_puts_translated_frames_in_place() -> None:
    frames, flow = translated()
    fit = fit_clip(frames, flow, config=replace(FAST, steps=1, learning_rate=1e-9))
    offsets = fit.offsets(0, torch.arange(5), (32, 48))
    # The middle frame is the reference; the frame i shows the picture 2 (i - 2) pixels further to the right.
    for i in range(5):
        inner = offsets[i, :, 8:-8, 0] * 48
        assert (inner - 2 * (i - 2)).abs().max() < 0.1
    assert offsets[..., 1].abs().max() < 1e-6


def test_a_fit_raises_the_fidelity() -> None:
    frames, flow = translated()
    before = fit_clip(frames, flow, config=replace(FAST, steps=1, learning_rate=1e-9)).psnr(frames)
    after = fit_clip(frames, flow, config=FAST).psnr(frames)
    assert after.min() > before.min() + 6 and after.min() > 30


def test_motion_is_found_without_flow_too() -> None:
    frames, flow = translated(step=1)
    still = fit_clip(frames, None, config=replace(FAST, steps=1, learning_rate=1e-9)).psnr(frames)
    found = fit_clip(frames, None, config=replace(FAST, steps=150)).psnr(frames)
    assert found.min() > still.min() + 10
    guided = fit_clip(frames, flow, config=replace(FAST, steps=150)).psnr(frames)
    assert guided.min() > found.min()


def test_layers_that_move_apart_need_masks() -> None:
    """A square before a moving ground."""
    frames, flow = translated(step=2)
    frames = frames.clone()
    square = torch.zeros(5, 1, 32, 48)
    square[:, :, 10:22, 18:30] = 1
    color = (picture(12, 12, seed=3) * 255).round().to(torch.uint8)
    frames[:, :, 10:22, 18:30] = color
    inside = square[:-1, 0] > 0
    forward = torch.where(inside[:, None], torch.zeros_like(flow.forward), flow.forward)
    known = replace(flow, forward=forward, backward=-forward)
    one = fit_clip(frames, known, config=replace(FAST, steps=120)).psnr(frames)
    masks = torch.stack([1 - square, square])
    fit = fit_clip(frames, known, masks, replace(FAST, steps=120))
    assert fit.psnr(frames, masks).mean() > one.mean() + 1
    # The square stands still, the ground moves.
    ground, block = (fit.offsets(n, torch.arange(5), (32, 48)) for n in (0, 1))
    assert block[:, 12:20, 20:28].abs().max() * 48 < 1
    assert (ground[4, 2:8, 12:36, 0] * 48 - 4).abs().max() < 1


def test_an_interrupted_fit_goes_on_to_the_same_result(tmp_path: Path) -> None:
    frames, flow = translated()
    whole = fit_clip(frames, flow, config=FAST)
    state = tmp_path / "fit.state"

    def stop(progress: FitProgress) -> None:
        if progress.step >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_clip(frames, flow, config=FAST, state_path=state, save_every=7, report=stop, report_every=10)
    reports: list[FitProgress] = []
    resumed = fit_clip(frames, flow, config=FAST, state_path=state, report=reports.append)
    assert reports[0].step == 40
    for name, value in whole.parameters().items():
        assert torch.equal(value, resumed.parameters()[name]), name


def test_a_killed_fit_goes_on_to_the_same_result(tmp_path: Path) -> None:
    frames, flow = translated()
    config = replace(FAST, steps=150)
    torch.save({"frames": frames, "flow": vars(flow)}, tmp_path / "clip.pt")
    program = (
        "import sys, torch; from pathlib import Path; from maskedit.video.fit import *; "
        "from maskedit.video.fit_options import FitConfig; "
        "from maskedit.video.flow import ClipFlow; torch.set_num_threads(1); folder = Path(sys.argv[1]); "
        "data = torch.load(folder / 'clip.pt', weights_only=True); "
        "fit_clip(data['frames'], ClipFlow(**data['flow']), config=FitConfig(steps=150, frames_per_step=2), "
        "state_path=folder / 'fit.state', save_every=5).save(folder / 'fit.safetensors')"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while not (tmp_path / "fit.state").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / "fit.state").exists() and not (tmp_path / "fit.safetensors").exists()
    subprocess.run(command, check=True, timeout=300)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = fit_clip(frames, flow, config=config)
    finally:
        torch.set_num_threads(threads)
    resumed = ClipFit.load(tmp_path / "fit.safetensors")
    for name, value in whole.parameters().items():
        assert torch.equal(value, resumed.parameters()[name]), name


def test_a_fit_is_stored_and_read_back(tmp_path: Path) -> None:
    frames, flow = translated()
    fit = fit_clip(frames, flow, config=replace(FAST, steps=5))
    fit.save(tmp_path / "fit.safetensors")
    read = ClipFit.load(tmp_path / "fit.safetensors")
    assert read.config == fit.config and read.shape == fit.shape
    assert torch.equal(read.psnr(frames), fit.psnr(frames))


def test_something_else_is_no_fit(tmp_path: Path) -> None:
    (tmp_path / "fit.safetensors").write_bytes(b"nonsense")
    with pytest.raises(SessionError, match="fit the clip anew"):
        ClipFit.load(tmp_path / "fit.safetensors")


def test_the_fidelity_that_is_reported_is_that_of_the_frames() -> None:
    frames, flow = translated()
    reports: list[FitProgress] = []
    fit = fit_clip(frames, flow, config=replace(FAST, steps=200), report=reports.append, report_every=50)
    assert [r.step for r in reports] == [50, 100, 150, 200]
    whole = -10 * (10 ** (-fit.psnr(frames) / 10)).mean().log10()
    assert abs(reports[-1].psnr - float(whole)) < 3


def test_fields_of_other_kinds_fit_too() -> None:
    frames, flow = translated(frames=3, height=24, width=24)
    for kind in ("hash", "frequency"):
        config = FitConfig(field=kind, steps=40, frames_per_step=2, hash_table=2**10)
        first = fit_clip(frames, flow, config=replace(config, steps=1)).psnr(frames).mean()
        assert fit_clip(frames, flow, config=config).psnr(frames).mean() > first + 3, kind


def test_one_frame_at_rest_is_its_canonical_image() -> None:
    frames, _ = translated()
    fit = ClipFit(FAST, shape_for(5, 32, 48, FAST), 1, "cpu")
    assert isinstance(fit.layers[0].deformation, DenseDeformation)
    seen = fit.canonical(0, None)
    assert seen.box == (slice(14, 46), slice(14, 62)) and seen.image.shape[-2:] == (60, 76)
    assert frames.shape[-2:] == (32, 48)


def test_the_state_of_another_clip_is_refused(tmp_path: Path) -> None:
    frames, flow = translated()
    state = tmp_path / "fit.state"
    config = replace(FAST, steps=3)
    fit_clip(frames, flow, config=config, state_path=state)
    for other in ((255 - frames, flow, config), (frames, None, config), (frames, flow, replace(config, seed=1))):
        with pytest.raises(SessionError, match="another run of the same size"):
            fit_clip(other[0], other[1], config=other[2], state_path=state)


def test_a_reference_beyond_the_clip_is_refused() -> None:
    frames, flow = translated()
    with pytest.raises(InputError, match="from 0 to 4 of each segment, got 5"):
        fit_clip(frames, flow, config=replace(FAST, reference=5))


def test_networks_begin_alike_and_leave_the_common_generator_alone() -> None:
    config, shape = FitConfig(field="frequency"), shape_for(2, 16, 16, FAST)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (ClipFit(replace(config, seed=seed), shape, 1, "cpu").parameters() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
