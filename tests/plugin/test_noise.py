"""Noise on surfaces: standard normal in every view, the same where two views see the same place, and nowhere else."""

import math
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from maskedit.editors import NoiseSource
from maskedit.plugin.noise import AnchoredNoise, pixel_footprints

SIDE, LATENTS = 128, 32
STEP = SIDE // LATENTS


def camera_at(x: float = 0.0, y: float = 0.0, z: float = 4.0, *, side: int = SIDE) -> Cameras:
    """A camera that looks down, along -z."""
    pose = torch.eye(4)[None, :3]
    pose[0, :, 3] = torch.tensor([x, y, z])
    return Cameras(pose, fx=float(side), fy=float(side), cx=side / 2, cy=side / 2, width=side, height=side)


def floor(camera: Cameras, *, tilt: float = 0.0) -> torch.Tensor:
    """What a camera sees of the plane z = tilt * x."""
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    slope = rays.directions[..., 2] - tilt * rays.directions[..., 0]
    reach = (tilt * rays.origins[..., 0] - rays.origins[..., 2]) / slope
    return rays.origins + reach[..., None] * rays.directions


def anchored(cameras: list[Cameras], seeds: tuple[int, ...] = (), *, tilt: float = 0.0, **options: Any) -> Any:
    points = [floor(camera, tilt=tilt) for camera in cameras]
    footprints = [pixel_footprints(*each) for each in zip(cameras, points, strict=True)]
    return AnchoredNoise(torch.stack(points), torch.stack(footprints), seeds or (7,) * len(cameras), **options)


def own(views: int, *, channels: int = 4, height: int = LATENTS, width: int = LATENTS) -> torch.Tensor:
    return torch.randn(views, channels, height, width, generator=torch.Generator().manual_seed(1))


def draw(noise: AnchoredNoise, views: int, **shape: int) -> torch.Tensor:
    return noise.draw(own(views, **shape), filled=(1.0, 1.0))


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first * second).mean())


def test_it_is_a_source_of_noise() -> None:
    noise = anchored([camera_at()], cell=0.5)
    assert isinstance(noise, NoiseSource)
    assert noise.settings == {"kind": "anchored", "cell": 0.5, "seeds": [7]}


@pytest.mark.parametrize("tilt", [0.0, 0.4])
@pytest.mark.parametrize("cell", [0.25, 0.5])
def test_each_view_s_noise_is_standard_normal(tilt: float, cell: float) -> None:
    noise = draw(anchored([camera_at(), camera_at(0.3, 0.1, 4.6)], tilt=tilt, cell=cell), 2, channels=8)
    for view in noise:
        # The error of a mean of n numbers is 1 / sqrt(n), that of higher moments a few times as much.
        error = 1 / math.sqrt(view.numel())
        assert abs(float(view.mean())) < 5 * error
        assert abs(float(view.var()) - 1) < 8 * error
        assert abs(float((view**3).mean())) < 16 * error
        assert abs(float((view**4).mean()) - 3) < 40 * error


def test_variance_is_one_in_every_cell_of_the_latents() -> None:
    """Whatever mixture of cells a latent pixel has: over many seeds, one by one."""
    views = [camera_at()] * 96
    noise = draw(anchored(views, tuple(range(96)), tilt=0.3), 96, height=8, width=8)
    variance = (noise**2).mean((0, 1))
    assert float((variance - 1).abs().max()) < 5 * math.sqrt(2 / (96 * 4))
    assert abs(float(variance.mean()) - 1) < 0.03


def test_neighbours_and_channels_are_almost_independent() -> None:
    (noise,) = draw(anchored([camera_at()], tilt=0.2), 1, channels=8)
    assert correlation(noise[..., 1:], noise[..., :-1]) < 0.08
    assert correlation(noise[:, 1:], noise[:, :-1]) < 0.08
    assert abs(correlation(noise[..., 2:], noise[..., :-2])) < 0.04
    assert abs(correlation(noise[1:], noise[:-1])) < 0.04


@pytest.mark.parametrize("tilt", [0.0, 0.3])
@pytest.mark.parametrize("height", [4.0, 4.3])
def test_two_views_have_the_same_noise_at_the_same_place(tilt: float, height: float) -> None:
    """The second camera stands three latent pixels to the right: what it sees there lies three to the left."""
    shift = 3 * STEP * 4.0 / SIDE
    first, second = draw(anchored([camera_at(), camera_at(shift, 0, height + tilt * shift)], tilt=tilt), 2, channels=8)
    middle = slice(8, 24)
    seen = correlation(first[:, middle, 11:23], second[:, middle, 8:20])
    # The nearer to the camera, the better the latent pixels of both fall on each other.
    assert seen > (0.75 if height == 4 else 0.35)
    assert abs(correlation(first, second)) < 0.04
    assert abs(correlation(own(2)[0, :, middle, 11:23], own(2)[1, :, middle, 8:20])) < 0.1


def test_sweeps_have_independent_noise() -> None:
    first, second = draw(anchored([camera_at()] * 2, (7, 8)), 2, channels=8)
    assert abs(correlation(first, second)) < 0.04


def test_it_is_exactly_reproducible_and_does_not_depend_on_the_batch() -> None:
    cameras = [camera_at(), camera_at(0.5), camera_at(0, 0.2, 5)]
    noise = anchored(cameras, (1, 2, 3))
    whole = draw(noise, 3)
    assert torch.equal(whole, draw(anchored(cameras, (1, 2, 3)), 3))
    for row in range(3):
        part = slice(row, row + 1)
        assert torch.equal(noise.rows(part).draw(own(3)[part], filled=(1.0, 1.0)), whole[part])
        assert torch.equal(draw(anchored([cameras[row]], (row + 1,)), 1)[0], whole[row])
    torch.manual_seed(5)
    assert torch.equal(draw(noise, 3), whole)


def test_it_is_as_the_formula_says() -> None:
    """One latent pixel over two cells of one size: weights and numbers from pixels that see one cell alone."""
    places = torch.tensor([[0.1, 0.2, 0.3], [7.3, 0.2, 0.3]])

    def noise_of(*counts: int) -> torch.Tensor:
        points = torch.cat([place.expand(count, 3) for place, count in zip(places, counts, strict=True)])[None]
        # Footprints that make the wanted size a power of two: all weight is on that size.
        source = AnchoredNoise(points[None], torch.full((1, 1, sum(counts)), 1 / 1.5), (3,))
        return source.draw(own(1, height=1, width=1), filled=(1.0, 1.0))[0, :, 0, 0]

    first, second = noise_of(1, 0), noise_of(0, 1)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(noise_of(4, 0), first)
    torch.testing.assert_close(noise_of(3, 1), (3 * first + second) / math.sqrt(10))
    torch.testing.assert_close(noise_of(2, 5), (2 * first + 5 * second) / math.sqrt(29))


def test_what_lies_nowhere_keeps_the_view_s_own_noise() -> None:
    camera = camera_at()
    points = floor(camera)
    points[:64] = torch.nan
    footprints = pixel_footprints(camera, points)
    footprints[:, :32] = torch.inf
    noise = draw(AnchoredNoise(points[None], footprints[None], (7,)), 1)
    assert torch.equal(noise[:, :, :16], own(1)[:, :, :16])
    assert torch.equal(noise[:, :, 16:, :8], own(1)[:, :, 16:, :8])
    assert (noise != own(1))[:, :, 16:, 8:].all()
    nowhere = AnchoredNoise(torch.full((1, 8, 8, 3), torch.nan), torch.ones(1, 8, 8), (7,))
    assert torch.equal(draw(nowhere, 1), own(1))


def test_padding_keeps_its_own_noise_and_the_picture_lies_before_it() -> None:
    noise = anchored([camera_at()])
    padded = noise.draw(own(1, height=LATENTS, width=LATENTS + 8), filled=(1.0, LATENTS / (LATENTS + 8)))
    assert torch.equal(padded[..., :LATENTS], noise.draw(own(1), filled=(1.0, 1.0)))
    assert torch.equal(padded[..., LATENTS:], own(1, width=LATENTS + 8)[..., LATENTS:])


def test_precision_is_that_of_the_noise_it_replaces() -> None:
    noise = anchored([camera_at()]).draw(own(1).half(), filled=(1.0, 1.0))
    assert noise.dtype == torch.float16


def test_a_footprint_is_distance_over_focal_length() -> None:
    camera = camera_at(1.0, 2.0, 4.0)
    points = floor(camera)
    footprints = pixel_footprints(camera, points)
    middle = (points - torch.tensor([1.0, 2.0, 0.0])).norm(dim=-1) < 0.03
    torch.testing.assert_close(footprints[middle], torch.full_like(footprints[middle], 4 / SIDE), atol=1e-5, rtol=1e-3)
    # Seen straight on, neighbours are as far from each other.
    torch.testing.assert_close((points[64, 65] - points[64, 64]).norm(), footprints[64, 64], atol=1e-5, rtol=1e-2)
    far = pixel_footprints(camera, points, far=4.1)
    assert torch.equal(far.isnan(), footprints * SIDE >= 4.1)
