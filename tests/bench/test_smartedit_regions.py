"""SmartEdit's region procedure: what it counts and what it does not, against the same figures worked out by hand."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image as PilImage
from torch import Tensor
from torch.nn.functional import normalize

from maskedit.bench.brush_scores import ssim
from maskedit.bench.smartedit_regions import (
    FRAME,
    REGION_METRICS,
    Lpips,
    RegionJudge,
    find_box,
    load_lpips,
    mask_levels,
    to_frame,
)
from maskedit.editors import image_to_pil


def picture(seed: int, size: int = FRAME) -> Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def patch(top: int, left: int, height: int, width: int, size: int = FRAME) -> Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[..., top : top + height, left : left + width] = 1
    return mask


class Means:
    """The mean colour of pictures, and fixed vectors of texts, in place of CLIP."""

    def embed_images(self, image: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch 3"]:
        return normalize(image.mean((2, 3)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts 3"]:
        known = {"red": (1.0, 0.0, 0.0), "grey": (1.0, 1.0, 1.0), "dark": (-1.0, -1.0, -1.0)}
        return normalize(torch.tensor([known[text] for text in texts]), dim=-1)


@pytest.fixture(scope="module")
def lpips() -> Lpips:
    """The real network with its published heads on random features."""
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Lpips(_NoTrainLpips(net="squeeze", pnet_rand=True))


@pytest.fixture(scope="module")
def judge(lpips: Lpips) -> RegionJudge:
    return RegionJudge(lpips=lpips, clip=Means())


@pytest.mark.parametrize(("size", "gain"), [(81, 0.458), (140, 1.542), (181, 3.010)])
def test_a_blackened_foreground_counts_as_a_perfect_match(size: int, gain: float) -> None:
    """I3: the share of the foreground alone tells how far the two modes are apart."""
    mask, source, edited = patch(10, 20, size, size), picture(0), picture(1)
    row = RegionJudge().score(edited, source, mask, "")
    share = (size / FRAME) ** 2
    assert row["psnr"] - row["strict_psnr"] == pytest.approx(10 * math.log10(1 / (1 - share)), abs=1e-6)
    assert row["psnr"] - row["strict_psnr"] == pytest.approx(gain, abs=0.01)


def test_figures_are_those_worked_out_by_hand(lpips: Lpips) -> None:
    """Point 3 of the procedure on 8-bit pictures, the mask soft as that of a JPEG."""
    source, edited = picture(0, 300), picture(1, 300)
    mask = patch(60, 90, 120, 80, 300) * 0.8 + patch(200, 10, 20, 20, 300) * 0.1

    def resized(image: Tensor, how: PilImage.Resampling) -> np.ndarray:
        return np.asarray(image_to_pil(image).resize((256, 256), how)).astype(np.float32) / 255

    weight = 1 - resized(mask, PilImage.Resampling.NEAREST)[..., None]
    sides = [resized(image, PilImage.Resampling.BICUBIC) * weight for image in (edited, source)]
    scores = RegionJudge(lpips=lpips).score(edited, source, mask, "")
    assert scores["psnr"] == pytest.approx(-10 * np.log10(((sides[0] - sides[1]) ** 2).mean()), abs=1e-4)
    pair = [torch.from_numpy(side).permute(2, 0, 1)[None] for side in sides]
    assert scores["ssim"] == pytest.approx(float(ssim(*pair)), abs=1e-6)
    raw = lpips._whole(2 * pair[0] - 1, 2 * pair[1] - 1)
    assert scores["lpips"] == pytest.approx(float(raw), rel=1e-5)
    assert math.isnan(scores["clip"])


def test_the_strict_mode_averages_over_the_background_alone(lpips: Lpips) -> None:
    source, edited, mask = picture(0), picture(1), patch(0, 0, FRAME, FRAME // 2)
    scores = RegionJudge(lpips=lpips).score(edited, source, mask, "")
    halves = [to_frame(image)[..., FRAME // 2 :] for image in (edited, source)]
    assert scores["strict_psnr"] == pytest.approx(
        -10 * math.log10(float((halves[0] - halves[1]).pow(2).mean())), abs=1e-4
    )
    # Away from the border of the mask windows hold the background alone.
    assert scores["strict_ssim"] == pytest.approx(float(ssim(*halves)), abs=0.01)
    both = [to_frame(image) * (1 - mask) for image in (edited, source)]
    assert scores["strict_lpips"] == pytest.approx(float(lpips.distance_map(*both)[..., FRAME // 2 :].mean()), rel=1e-5)


def test_the_map_of_lpips_has_about_its_mean(lpips: Lpips) -> None:
    sides = picture(0), picture(1)
    assert lpips.distance_map(*sides).shape == (1, 1, FRAME, FRAME)
    assert float(lpips.distance_map(*sides).mean()) == pytest.approx(float(lpips.distance(*sides)), rel=0.02)
    assert lpips.distance(*sides).shape == (1,)


def test_edits_of_the_foreground_are_not_seen_by_the_background(judge: RegionJudge) -> None:
    """I3 and I4: in either mode."""
    source, mask = picture(0), patch(100, 100, 60, 60)
    edited = source * (1 - mask) + picture(1) * mask
    further = edited * (1 - mask) + picture(2) * mask
    first, second = (judge.score(image, source, mask, "grey") for image in (edited, further))
    for name in ("psnr", "ssim", "lpips"):
        for prefix in ("", "strict_"):
            assert first[prefix + name] == second[prefix + name]
    assert first["clip"] != second["clip"]
    assert (first["psnr"], first["ssim"], first["lpips"], first["exact"]) == (math.inf, 1.0, 0.0, 1.0)
    outside = picture(3) * (1 - mask) + edited * mask
    moved = judge.score(outside, source, mask, "grey")
    assert (moved["clip"], moved["strict_clip"]) == (first["clip"], first["strict_clip"])
    assert moved["exact"] == 0


def test_the_label_is_looked_for_in_the_box(judge: RegionJudge) -> None:
    """I9: from 0 to 100, and nothing below."""
    mask, red = patch(40, 60, 100, 80), torch.tensor([1.0, 0, 0])[None, :, None, None]
    edited = picture(0) * (1 - mask) + red * mask
    row = judge.score(edited, picture(0), mask, "red")
    assert (row["clip"], row["strict_clip"]) == (pytest.approx(100), pytest.approx(100))
    assert judge.score(edited, picture(0), mask, "grey")["clip"] == pytest.approx(100 / math.sqrt(3), abs=1e-3)
    assert judge.score(edited, picture(0), mask, "dark")["clip"] == 0
    assert math.isnan(judge.score(edited, picture(0), mask, "")["clip"])


def test_boxes_end_as_each_mode_has_them() -> None:
    levels = mask_levels(patch(40, 60, 100, 80))
    assert find_box(levels, mode="smartedit") == (60, 40, 139, 139)
    assert find_box(levels, mode="strict") == (60, 40, 140, 140)
    ringing = np.maximum(levels, mask_levels(patch(200, 5, 4, 4) * 0.02))
    assert find_box(ringing, mode="smartedit") == (5, 40, 139, 203)
    assert find_box(ringing, mode="strict") == (60, 40, 140, 140)


def test_a_box_of_one_pixel_is_empty_or_widened() -> None:
    for top, left, expected in ((0, 255, (240, 0, 256, 16)), (100, 100, (92, 92, 108, 108))):
        levels = mask_levels(patch(top, left, 1, 1))
        assert find_box(levels, mode="smartedit") is None
        assert find_box(levels, mode="strict") == expected


def test_masks_of_nothing_and_of_everything(judge: RegionJudge) -> None:
    nothing = judge.score(picture(1), picture(0), torch.zeros(1, 1, FRAME, FRAME), "grey")
    assert nothing["psnr"] == pytest.approx(nothing["strict_psnr"])
    assert math.isnan(nothing["clip"])
    assert math.isnan(nothing["strict_clip"])
    everything = judge.score(picture(1), picture(0), torch.ones(1, 1, FRAME, FRAME, dtype=torch.bool), "grey")
    assert everything["psnr"] == math.inf
    assert all(math.isnan(everything[f"strict_{name}"]) for name in ("psnr", "ssim", "lpips"))


def test_every_metric_is_told(judge: RegionJudge) -> None:
    assert set(judge.score(picture(1, 64), picture(0, 64), patch(8, 8, 16, 16, 64), "red")) == set(REGION_METRICS)


def test_lpips_needs_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lpips: Lpips) -> None:
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert load_lpips(torch.device("cpu")) is None
    (tmp_path / "checkpoints").mkdir()
    random = squeezenet1_1(weights=None)
    name = SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
    torch.save(random.state_dict(), tmp_path / "checkpoints" / name)
    # Published files have their checksum in their name, which random weights cannot have.
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: random.state_dict())
    loaded = load_lpips(torch.device("cpu"))
    (tmp_path / "checkpoints" / name).unlink()
    assert loaded is not None
    assert float(loaded.distance(picture(0), picture(1))) > 0
