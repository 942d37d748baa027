"""A scene that is known without training, for tests of votes: its rays end where geometry says."""

import math
from collections.abc import Iterator

import torch
from nerfstudio.cameras.cameras import Cameras

from maskedit.plugin.votes import RayWeights, VoxelVotes


class BallScene:
    """A ball on a floor that is known without training: rays end where geometry says."""

    radius = 0.3

    def camera(self, azimuth: float, *, side: int = 24, elevation: float = 0.6) -> Cameras:
        """One that looks at the ball."""
        back = torch.tensor(
            [
                math.cos(elevation) * math.cos(azimuth),
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
            ]
        )
        right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 0, 1]), back), dim=0)
        pose = torch.stack([right, torch.linalg.cross(back, right), back, 0.9 * back], dim=-1)
        return Cameras(pose[None], 1.2 * side, 1.2 * side, side / 2, side / 2, width=side, height=side)

    def cameras(self, count: int = 8) -> list[Cameras]:
        """All around it."""
        return [self.camera(2 * math.pi * view / count) for view in range(count)]

    def hits(self, camera: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
        """For each ray, row by row, where it ends and whether that is on the ball."""
        rays = camera.generate_rays(camera_indices=0, keep_shape=True).flatten()
        start, way = rays.origins, rays.directions
        half = (start * way).sum(-1)
        root = half.square() - start.square().sum(-1) + self.radius**2
        on_ball = root > 0
        floor = torch.where(way[:, 2] < 0, -(start[:, 2] + self.radius) / way[:, 2], 20.0)
        near = torch.where(on_ball, -half - root.clamp_min(0).sqrt(), floor.clamp_max(20))
        return start + near[:, None] * way, on_ball

    def mask(self, camera: Cameras) -> torch.Tensor:
        """The ball as a camera sees it."""
        return self.hits(camera)[1].float().view(int(camera.height), int(camera.width))

    def ray_weights(self, camera: Cameras) -> Iterator[RayWeights]:
        """All of a ray's colour comes from where it ends; in two parts, as from a model that works in chunks."""
        points, _ = self.hits(camera)
        for part in points.split(len(points) // 2 + 1):
            yield RayWeights(points=part[:, None], weights=torch.ones(len(part), 1))

    def make_votes(self, resolution: int = 64) -> VoxelVotes:
        return VoxelVotes(self.ray_weights, device="cpu", resolution=resolution)
