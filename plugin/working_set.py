"""Photos in two sets: the originals, which nothing changes, and the working set, which trains.

Rays and whole pictures are drawn from it by different data managers of nerfstudio; what edits need of them is here.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ..editors import InputError
from .storage import from_bytes, to_bytes


class WorkingSet:
    """Originals and what is trained on in their place.

    Args:
        originals: the photos, which are kept in main memory, where edits are made and stored.
        shown: the tensor that trains, in [0, 1]; set to the photos and from then on changed in place.
    """

    def __init__(
        self, originals: UInt8[Tensor, "views height width 3"], shown: Float[Tensor, "views height width 3"]
    ) -> None:
        self._originals, self._shown = originals.cpu(), shown
        for view in range(len(originals)):
            self.show_original(view)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number, height and width of the photos."""
        count, height, width, _ = self._originals.shape
        return count, height, width

    def original(self, view: int) -> UInt8[Tensor, "height width 3"]:
        """The photo of a view, in main memory; a copy, so that nobody changes it."""
        return self._originals[view].clone()

    def replace_original(self, view: int, photo: UInt8[Tensor, "height width 3"]) -> None:
        """Take another picture for the photo of a view, and train on it."""
        self.show(view, photo)
        self._originals[view] = photo

    def shown(self, view: int) -> UInt8[Tensor, "height width 3"]:
        """What a view trains on now."""
        return to_bytes(self._shown[view])

    def picture(self, view: int) -> Float[Tensor, "height width 3"]:
        """The same as it trains: in [0, 1], not to be changed."""
        return self._shown[view]

    def show(self, view: int, image: UInt8[Tensor, "height width 3"]) -> None:
        """Train on a picture from now on.

        Raises:
            InputError: if it is not of the photo's size.
        """
        if image.shape != self._originals[view].shape:
            raise InputError(
                f"expected an edit of shape {tuple(self._originals[view].shape)}, got {tuple(image.shape)}"
            )
        self._shown[view] = from_bytes(image).to(self._shown.device)

    def show_original(self, view: int) -> None:
        """Train on the photo itself again."""
        self.show(view, self._originals[view])


class EditedPhotos:
    """What edits need of a data manager; it sets `working` and `views` when it has read its photos."""

    working: WorkingSet
    views: tuple[int, ...] = ()
    """Index of each view's camera in the training set."""
    uses_patches: bool = False
    """Whether rays are drawn in patches; means nothing where whole pictures are drawn."""
    focus: int | None = None
    """The view to draw the next picture of, as a sweep asks for; means nothing where rays of all views are drawn."""
    train_dataset: Any
    device: Any

    @property
    def photo_shape(self) -> tuple[int, int, int]:
        """Number, height and width of the photos."""
        return self.working.shape

    def photo_file(self, view: int) -> Path:
        """File of a view's photo, at the resolution that is worked at."""
        return Path(self.train_dataset.image_filenames[self.views[view]]).resolve()

    def photo_name(self, view: int) -> str:
        """File name of a view's photo."""
        return Path(self.train_dataset.image_filenames[self.views[view]]).name

    def original(self, view: int) -> UInt8[Tensor, "height width 3"]:
        """The photo of a view, as it was taken; a copy, so that nobody changes it."""
        return self.working.original(view)

    def replace_original(self, view: int, photo: UInt8[Tensor, "height width 3"]) -> None:
        """Take another picture for the photo of a view: that which an earlier run left."""
        self.working.replace_original(view, photo)

    def shown(self, view: int) -> UInt8[Tensor, "height width 3"]:
        """What a view trains on now."""
        return self.working.shown(view)

    def show(self, view: int, image: UInt8[Tensor, "height width 3"]) -> None:
        """Train on an edited photo from now on."""
        self.working.show(view, image)

    def show_original(self, view: int) -> None:
        """Train on the photo itself again."""
        self.working.show_original(view)

    def camera(self, view: int) -> Cameras:
        """The camera of a view, at the resolution of its photo."""
        index = self.views[view]
        return self.train_dataset.cameras[index : index + 1].to(self.device)


def check_photo_sizes(files: list[Path], cameras: Cameras) -> None:
    """Refuse a scene without photos, or with photos of several sizes.

    Raises:
        InputError: saying what was found.
    """
    if not files:
        raise InputError("expected photos in the training split, found none: check --data and the eval split")
    sizes = {(int(w), int(h)) for w, h in zip(cameras.width.flatten(), cameras.height.flatten(), strict=True)}
    if len(sizes) > 1:
        (width, height), (other_width, other_height) = sorted(sizes)[:2]
        raise InputError(
            f"expected photos of one size, got {width}x{height} and {other_width}x{other_height}: resize them, "
            "with their intrinsics, to one size first"
        )


def check_photos_fit(images: Tensor, cameras: Cameras) -> None:
    """Refuse photos with transparency, or of another size than their cameras.

    Raises:
        InputError: saying what was found.
    """
    if images.shape[-1] != 3:
        raise InputError("expected photos without transparency: save them as RGB first")
    camera = cameras[0]
    if images.shape[1:3] != (int(camera.height), int(camera.width)):
        raise InputError(
            f"photos have {images.shape[2]}x{images.shape[1]} pixels and their cameras {int(camera.width)}x"
            f"{int(camera.height)}: correct w, h and the intrinsics in transforms.json"
        )


def unreadable(data: Path | None, error: Exception) -> InputError:
    """What to say of a scene that a data parser could not read."""
    return InputError(
        f"cannot read the scene at {data} ({type(error).__name__}: {error}): give --data a folder with "
        "transforms.json and its photos"
    )


def as_stack(images: list[Tensor]) -> Tensor:
    """Photos of one size as one tensor.

    Raises:
        InputError: if their sizes differ.
    """
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1:
        raise InputError(
            f"expected photos of one size (got {shapes[0]} and {shapes[1]}): resize them, with their intrinsics, first"
        )
    return torch.stack(images)
