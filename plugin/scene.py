"""What the plugin needs of a scene, whatever it is made of, and how the cameras of the working set see it."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ..editors import Image, ModelError
from .votes import SceneVotes
from .working_set import EditedPhotos


@dataclass(frozen=True, kw_only=True)
class ViewRender:
    """The current scene as a camera sees it."""

    image: Image
    """One picture in main memory."""
    points: Float[Tensor, "rows columns 3"]
    """Where the ray of each pixel meets the scene, in the scene's own coordinates, in main memory."""


@runtime_checkable
class SceneModel(Protocol):
    """A model of nerfstudio that can be edited."""

    training: bool

    def set_editing(self, editing: bool) -> None:
        """Choose the losses: of reconstruction, or of photos that disagree because they are edited."""
        ...

    def load_perceptual(self) -> None:
        """Load what the losses need, before training begins."""
        ...

    def training_state(self) -> dict[str, Any]:
        """What training remembers outside the weights, for a checkpoint; tensors and plain data."""
        ...

    def restore_training_state(self, step: int, state: dict[str, Any]) -> None:
        """Set what training remembers to its state after a step; an empty state is that of another method's run."""
        ...

    def get_outputs_for_camera(self, camera: Cameras) -> dict[str, Tensor]:
        """nerfstudio's outputs, `rgb` among them, for every pixel of a camera."""
        ...

    def surface_points(self, camera: Cameras, outputs: dict[str, Tensor]) -> Float[Tensor, "rows columns 3"]:
        """Where each pixel's ray meets the scene, from the outputs for the camera."""
        ...

    def make_votes(self) -> SceneVotes:
        """Empty votes about this scene."""
        ...

    def protect(self, votes: SceneVotes | None) -> None:
        """Let the scene change, while it is edited, only where most votes say yes; None = everywhere."""
        ...


class SceneRenderer:
    """Renders the cameras of a working set, with their optimised poses.

    Args:
        model: the scene; a copy of it where another thread trains the scene itself.
        data: whose cameras.
    """

    def __init__(self, model: Any, data: EditedPhotos) -> None:
        self.model, self.data = model, data

    @torch.no_grad()
    def render(self, view: int) -> ViewRender:
        """The current scene as a camera of the working set sees it.

        Raises:
            ModelError: if the scene has weights that are not numbers.
        """
        model = self.model
        was_training = model.training
        model.eval()
        try:
            camera = self.camera(view)
            # Half precision is for training; an edit should not depend on it.
            with torch.autocast(device_type=torch.device(model.device).type, enabled=False):
                outputs = model.get_outputs_for_camera(camera)
                points = model.surface_points(camera, outputs)
        finally:
            model.train(was_training)
        # NaN may be rendered as black, so the weights are asked.
        if not bool(torch.stack([torch.isfinite(each).all() for each in model.parameters()]).all()):
            raise ModelError(
                "the scene has become NaN: continue from an older checkpoint (--load-step) or lower the learning rates"
            )
        image = outputs["rgb"].float().clamp(0, 1).permute(2, 0, 1)[None].cpu()
        return ViewRender(image=image, points=points.float().cpu())

    def camera(self, view: int) -> Cameras:
        """The camera of a view with its optimised pose, on the model's device."""
        camera = self.data.camera(view).to(self.model.device)
        optimizer = self.model.camera_optimizer
        if optimizer.config.mode == "off":
            return camera
        poses = camera.camera_to_worlds
        with torch.no_grad():
            correction = optimizer(torch.tensor([self.data.views[view]], device=self.model.device)).to(poses)
        rotation = correction[:, :3, :3] @ poses[..., :3, :3]
        translation = poses[..., :3, 3:] + correction[:, :3, 3:]
        camera.camera_to_worlds = torch.cat([rotation, translation], dim=-1)
        return camera
