"""Whole pictures of a working set, one for each training step, for scenes of Gaussians.

nerfstudio draws the pictures from a list that it empties, which a resumed run would begin anew; here the order of each
round through the photos is a function of the seed, and the picture a function of the step.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from ..editors import InputError
from .storage import from_bytes, to_bytes
from .working_set import EditedPhotos, WorkingSet, as_stack, check_photo_sizes, check_photos_fit, unreadable


def _with_points() -> NerfstudioDataParserConfig:
    return NerfstudioDataParserConfig(load_3D_points=True)


@dataclass
class MaskeditSplatDataManagerConfig(FullImageDatamanagerConfig):
    """Photos to edit and to train on."""

    _target: type = field(default_factory=lambda: MaskeditSplatDataManager)
    dataparser: AnnotatedDataParserUnion = field(default_factory=_with_points)
    """How the scene's folder is read."""
    cache_images_type: Literal["uint8", "float32"] = "uint8"
    """How photos are read; those of the training set are kept in both forms anyway."""


class MaskeditSplatDataManager(EditedPhotos, FullImageDatamanager):
    """Holds originals and working set, and hands out whole pictures of the working set.

    Raises:
        InputError: if there are no photos or their sizes differ.
    """

    config: MaskeditSplatDataManagerConfig

    def __init__(
        self,
        config: MaskeditSplatDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: str = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        if world_size > 1:
            raise InputError(f"expected one device, got {world_size}: pass --machine.num-devices 1")
        if config.train_cameras_sampling_strategy != "random":
            raise InputError(
                "photos are drawn at random and every one in its turn: leave "
                "--pipeline.datamanager.train-cameras-sampling-strategy at random"
            )
        try:
            super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)  # type: ignore[arg-type]
        except (AssertionError, IndexError, KeyError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise unreadable(config.data, error) from error

    def setup_train(self) -> None:
        """Read the photos, free them of lens distortion and set the working set to them."""
        check_photo_sizes(self.train_dataset.image_filenames, self.train_dataset.cameras)
        # One tensor holds all pictures; what nerfstudio cached keeps the rest, such as masks.
        photos = as_stack([entry.pop("image") for entry in self.cached_train])
        check_photos_fit(photos, self.train_dataset.cameras)
        originals = to_bytes(photos) if photos.is_floating_point() else photos
        self.working = WorkingSet(originals, from_bytes(originals).to(photos.device))
        self.views = tuple(range(len(photos)))

    def _load_images(self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]) -> Any:
        """nerfstudio's photos, freed of lens distortion, with cameras that say so."""
        photos = super()._load_images(split, cache_images_device)
        cameras = cast(Cameras, (self.train_dataset if split == "train" else self.eval_dataset).cameras)
        # nerfstudio corrects the intrinsics alone: rays would be bent once more, and splatfacto draws without a lens.
        cameras.distortion_params = None
        cameras.camera_type.fill_(CameraType.PERSPECTIVE.value)
        return photos

    def next_train(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """The picture of a step with its camera: that of `focus` where a sweep asks for one."""
        self.train_count += 1
        view = self.view_at(step) if self.focus is None else self.focus
        batch: dict[str, Any] = {
            **self.cached_train[view],
            "image": self.working.picture(view).to(self.device),
        }
        camera = self.camera(view)
        camera.metadata = {**(camera.metadata or {}), "cam_idx": view}
        return camera, batch

    def view_at(self, step: int) -> int:
        """The view that a step trains on if nothing else is asked for: each one once in every round."""
        turn, place = divmod(max(0, step), len(self.views))
        rng = np.random.default_rng([self.config.train_cameras_sampling_seed, turn])
        return int(rng.permutation(len(self.views))[place])

    def get_train_rays_per_batch(self) -> int:
        """Pixels of a picture; nerfstudio's speed display counts with them."""
        _, height, width = self.photo_shape
        return height * width
