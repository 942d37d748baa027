"""Rays of a working set, for radiance fields.

nerfstudio caches all photos in one tensor, in an order it draws at random; here the order is that of the cameras, so
that place and camera are the same from run to run. A subset is drawn from the seed and mapped to camera indices.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.pixel_samplers import PixelSampler
from torch import Tensor

from ..editors import InputError
from .storage import to_bytes
from .update import Draw, seed_for
from .working_set import EditedPhotos, WorkingSet, check_photo_sizes, check_photos_fit, unreadable


@dataclass
class MaskeditDataManagerConfig(VanillaDataManagerConfig):
    """Photos to edit and to train on."""

    _target: type = field(default_factory=lambda: MaskeditDataManager)
    dataparser: AnnotatedDataParserUnion = field(default_factory=NerfstudioDataParserConfig)
    """How the scene's folder is read."""
    train_num_rays_per_batch: int = 16384
    """Rays of one training step; with patches, a multiple of the patch's area."""
    patch_size: int = 32
    """Side of the square patches that are trained on while editing, in pixels; 1 = single rays (no LPIPS)."""
    subset_seed: int = 0
    """Seed of the choice of photos when --train-num-images-to-sample-from asks for fewer than all."""


class MaskeditDataManager(EditedPhotos, VanillaDataManager):
    """Holds originals and working set, and hands out rays of the working set.

    Raises:
        InputError: if there are no photos, their sizes differ, or they are smaller than a patch.
    """

    config: MaskeditDataManagerConfig

    def __init__(
        self,
        config: MaskeditDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: str = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        try:
            super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)  # type: ignore[arg-type]
        except (AssertionError, IndexError, KeyError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise unreadable(config.data, error) from error

    def setup_train(self) -> None:
        """Read the photos and set the working set to the originals."""
        config = self.config
        if config.train_num_times_to_repeat_images != -1:
            raise InputError(
                "photos can't be exchanged while they are edited: leave --train-num-times-to-repeat-images at -1"
            )
        check_photo_sizes(self.train_dataset.image_filenames, self.train_dataset.cameras)
        random.seed(seed_for(config.subset_seed, Draw.SETUP, 0))
        try:
            super().setup_train()
        except RuntimeError as error:
            if "equal size" not in str(error):
                raise
            raise InputError(
                f"expected photos of one size ({error}): resize them, with their intrinsics, first"
            ) from error
        cached = next(self.iter_train_image_dataloader)
        assert isinstance(cached, dict)
        self.batch: dict[str, Any] = self._sort_by_camera(cached)
        # nerfstudio's loader would keep a second copy of every photo.
        self.train_image_dataloader.cached_collated_batch = self.batch
        self.views = tuple(int(i) for i in self.batch["image_idx"])
        images: Tensor = self.batch["image"]
        check_photos_fit(images, self.train_dataset.cameras)
        if min(images.shape[1:3]) < config.patch_size or config.train_num_rays_per_batch < config.patch_size**2:
            raise InputError(
                f"photos of {images.shape[2]}x{images.shape[1]} pixels and {config.train_num_rays_per_batch} rays hold "
                f"no patch of {config.patch_size}x{config.patch_size}: pass a smaller --pipeline.datamanager.patch-size"
            )
        self.working = WorkingSet(to_bytes(images), images)
        self._patch_sampler = self.train_pixel_sampler
        assert self._patch_sampler is not None
        # nerfstudio rounds the rays to whole patches before it learns their size.
        self._patch_sampler.set_num_rays_per_batch(config.train_num_rays_per_batch)
        self._ray_sampler = self._plain_sampler()

    def _plain_sampler(self) -> PixelSampler | None:
        patch_size, self.config.patch_size = self.config.patch_size, 1
        try:
            return self._get_pixel_sampler(self.train_dataset, self.config.train_num_rays_per_batch)
        finally:
            self.config.patch_size = patch_size

    def _sort_by_camera(self, batch: dict[str, Any]) -> dict[str, Any]:
        order = torch.argsort(torch.as_tensor(batch["image_idx"]))
        count = len(order)
        return {
            key: value[order.to(value.device)] if isinstance(value, Tensor) and len(value) == count else value
            for key, value in batch.items()
        }

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Rays and colours of the working set."""
        self.train_count += 1
        self.train_pixel_sampler = self._patch_sampler if self.uses_patches else self._ray_sampler
        assert self.train_pixel_sampler is not None
        batch = self.train_pixel_sampler.sample(self.batch)
        return self.train_ray_generator(batch["indices"]), batch
