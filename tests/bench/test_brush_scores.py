"""InstructBrush's metrics on pictures and vectors made for it, against what they must be."""

import math
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from maskedit.bench.brush_scores import direct, load_perceptual, score_edit, ssim, summarise_edits
from maskedit.editors import BrushPairs


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 24, 24, generator=torch.Generator().manual_seed(seed))


def pairs(before: Tensor, after: Tensor) -> BrushPairs:
    return BrushPairs(names=tuple(map(str, range(len(before)))), before=before, after=after)


class Projection:
    """A fixed linear map in place of CLIP."""

    def embed_images(self, image: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch width"]:
        return image.flatten(1) @ torch.randn(3 * 24 * 24, 8, generator=torch.Generator().manual_seed(3))


def test_psnr_of_a_constant_difference() -> None:
    """I2 of the metrics: -20 log10(d)."""
    truth = pictures(2) * 0.5
    row = score_edit(truth + 0.1, pairs(pictures(2, 1), truth), pairs(truth, truth))
    assert row["psnr"] == pytest.approx(20, abs=1e-3)
    assert (row["lpips"], row["direct"]) == (None, None)


def test_a_perfect_edit_has_no_finite_psnr() -> None:
    """I1: SSIM 1 and no error; what is infinite is left out of the mean."""
    truth = pictures(2)
    edited = truth.clone()
    edited[1] += 0.1
    assert score_edit(truth, pairs(truth, truth), pairs(truth, truth))["psnr"] is None
    assert score_edit(edited, pairs(truth, truth), pairs(truth, truth))["psnr"] == pytest.approx(20, abs=1e-3)
    torch.testing.assert_close(ssim(truth, truth), torch.ones(2))


def test_ssim_is_the_one_of_another_library() -> None:
    from skimage.metrics import structural_similarity

    one, other = pictures(2), (0.7 * pictures(2) + 0.3 * pictures(2, 1))
    found = ssim(one, other)
    for row in range(2):
        expected = structural_similarity(
            one[row].numpy(),
            other[row].numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert float(found[row]) == pytest.approx(expected, abs=2e-2)
    torch.testing.assert_close(ssim(other, one), found)


def test_directions_that_agree_oppose_and_have_nothing_in_common() -> None:
    """I6: 0, 2 and 1; a common shift of all embeddings changes nothing."""
    start, way = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 2.0, 0.0, 0.0])
    across = torch.tensor([-2.0, 1.0, 0.0, 0.0])
    learned = (start, start + way)
    assert direct(start, start + 3 * way, *learned) == pytest.approx(0, abs=1e-6)
    assert direct(start, start - way, *learned) == pytest.approx(2, abs=1e-6)
    assert direct(start, start + across, *learned) == pytest.approx(1, abs=1e-6)
    shifted = direct(start + 5, start + across + way + 5, start + 5, start + way + 5)
    assert shifted == pytest.approx(direct(start, start + across + way, *learned), abs=1e-5)
    assert math.isnan(direct(start, start, *learned))


def test_the_true_edit_has_the_best_direction() -> None:
    before, shift = pictures(3) * 0.5, torch.tensor([0.3, 0.0, 0.1])[:, None, None]
    learned = pairs(pictures(2, 5) * 0.5, pictures(2, 5) * 0.5 + shift)
    test = pairs(before, before + shift)

    def score(edited: Tensor) -> float:
        return float(score_edit(edited, test, learned, encoder=Projection())["direct"] or 0)

    assert score(before + shift) == pytest.approx(0, abs=1e-5)
    assert score(before + shift.flip(0)) > 0.05
    assert score_edit(before, test, learned, encoder=Projection())["direct"] is None


def test_lpips_is_left_out_where_its_weights_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert load_perceptual(torch.device("cpu")) is None


@pytest.mark.slow
def test_lpips_is_that_of_alexnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of the real network: alike pictures are nearer, equal ones have none."""
    from torchvision.models import AlexNet_Weights, alexnet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = alexnet().state_dict()
    name = AlexNet_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights, tmp_path / "checkpoints" / name)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    distance = load_perceptual(torch.device("cpu"))
    # It is large, and pytest keeps the folders of several runs.
    (tmp_path / "checkpoints" / name).unlink()
    assert distance is not None
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    near, far = distance(image, (image + 0.02).clamp(0, 1)), distance(image, 1 - image)
    assert near.shape == (2,)
    assert bool((near < far).all())
    assert float(distance(image, image).abs().max()) < 1e-6


def test_every_edit_counts_once() -> None:
    """I8: the published rows of TOP-Bench from its Global and Local ones, of 14 and 11 edits."""
    rows = [{"psnr": 18.66, "ssim": 0.5842, "direct": 0.2798}] * 14 + [
        {"psnr": 23.26, "ssim": 0.8297, "direct": None}
    ] * 11
    found = summarise_edits("instructbrush", 10, "all", rows)
    assert found["psnr"] == pytest.approx(20.68, abs=0.01)
    assert found["ssim"] == pytest.approx(0.6922, abs=1e-4)
    assert found["direct"] == pytest.approx(0.2798)
    assert (found["edits"], found["lpips"], found["seconds_step"]) == (25, None, None)
