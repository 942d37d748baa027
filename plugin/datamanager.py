"""Photos of a scene in two sets: the originals, which nothing changes, and the working set, which trains.

nerfstudio caches all photos in one tensor, in an order it draws at random; here the order is that of the cameras, so
that place and camera are the same from run to run. A subset is drawn from the seed and mapped to camera indices.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.pixel_samplers import PixelSampler
from torch import Tensor

from ..editors import InputError
from .storage import from_bytes, to_bytes
from .update import Draw, seed_for


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


class MaskeditDataManager(VanillaDataManager):
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
        if world_size > 1:
            raise InputError(f"expected one device, got {world_size}: pass --machine.num-devices 1")
        self.uses_patches = False
        self.views: tuple[int, ...] = ()
        try:
            super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)  # type: ignore[arg-type]
        except (AssertionError, IndexError, KeyError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"cannot read the scene at {config.data} ({type(error).__name__}: {error}): give --data a folder with "
                "transforms.json and its photos"
            ) from error

    def setup_train(self) -> None:
        """Read the photos and set the working set to the originals."""
        config = self.config
        if config.train_num_times_to_repeat_images != -1:
            raise InputError(
                "photos can't be exchanged while they are edited: leave --train-num-times-to-repeat-images at -1"
            )
        _check_photos(self.train_dataset.image_filenames, self.train_dataset.cameras)
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
        if images.shape[-1] != 3:
            raise InputError("expected photos without transparency: save them as RGB first")
        camera = self.train_dataset.cameras[0]
        if images.shape[1:3] != (int(camera.height), int(camera.width)):
            raise InputError(
                f"photos have {images.shape[2]}x{images.shape[1]} pixels and their cameras {int(camera.width)}x"
                f"{int(camera.height)}: correct w, h and the intrinsics in transforms.json"
            )
        if min(images.shape[1:3]) < config.patch_size or config.train_num_rays_per_batch < config.patch_size**2:
            raise InputError(
                f"photos of {images.shape[2]}x{images.shape[1]} pixels and {config.train_num_rays_per_batch} rays hold "
                f"no patch of {config.patch_size}x{config.patch_size}: pass a smaller --pipeline.datamanager.patch-size"
            )
        self._originals = to_bytes(images)
        self.batch["image"] = from_bytes(self._originals).to(images.device)
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

    @property
    def photo_shape(self) -> tuple[int, int, int]:
        """Number, height and width of the photos."""
        count, height, width, _ = self._originals.shape
        return count, height, width

    def photo_name(self, view: int) -> str:
        """File name of a view's photo."""
        return Path(self.train_dataset.image_filenames[self.views[view]]).name

    def original(self, view: int) -> UInt8[Tensor, "height width 3"]:
        """The photo of a view, as it was taken; a copy, so that nobody changes it."""
        return self._originals[view].clone()

    def replace_original(self, view: int, photo: UInt8[Tensor, "height width 3"]) -> None:
        """Take another picture for the photo of a view: that which an earlier run left."""
        self.show(view, photo)
        self._originals[view] = photo

    def shown(self, view: int) -> UInt8[Tensor, "height width 3"]:
        """What a view trains on now."""
        return to_bytes(self.batch["image"][view])

    def show(self, view: int, image: UInt8[Tensor, "height width 3"]) -> None:
        """Train on an edited photo from now on."""
        if image.shape != self._originals[view].shape:
            raise InputError(
                f"expected an edit of shape {tuple(self._originals[view].shape)}, got {tuple(image.shape)}"
            )
        self.batch["image"][view] = from_bytes(image).to(self.batch["image"].device)

    def show_original(self, view: int) -> None:
        """Train on the photo itself again."""
        self.show(view, self._originals[view])

    def camera(self, view: int) -> Cameras:
        """The camera of a view, at the resolution of its photo."""
        index = self.views[view]
        return self.train_dataset.cameras[index : index + 1].to(self.device)


def _check_photos(files: list[Path], cameras: Cameras) -> None:
    if not files:
        raise InputError("expected photos in the training split, found none: check --data and the eval split")
    sizes = {(int(w), int(h)) for w, h in zip(cameras.width.flatten(), cameras.height.flatten(), strict=True)}
    if len(sizes) > 1:
        (width, height), (other_width, other_height) = sorted(sizes)[:2]
        raise InputError(
            f"expected photos of one size, got {width}x{height} and {other_width}x{other_height}: resize them, "
            "with their intrinsics, to one size first"
        )
