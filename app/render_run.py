"""Renders the scene of a finished `ns-train maskedit` run from any camera, before its first edit and after its last."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import torch

from ..bench.blocks import OrbitCamera, camera_to_world, focal_length
from ..editors import Image, SessionError
from ..plugin.checkpoint import find_checkpoint, model_weights, read_checkpoint
from ..plugin.session import FOLDER, EditSession


class RunRenderer:
    """A run on disk, with its scene loaded."""

    def __init__(self, run: Path) -> None:
        """Load the scene as the run left it.

        Args:
            run: folder with the run's config.yml.

        Raises:
            SessionError: if it is no folder of a maskedit run.
        """
        self.run = run
        self.session = EditSession.open(run / FOLDER)
        if not (run / "config.yml").is_file():
            raise SessionError(f"expected config.yml in {run}, found none: give the folder of a maskedit run")
        with _quiet():
            from nerfstudio.utils.eval_utils import eval_setup

            _, self.pipeline, _, _ = eval_setup(run / "config.yml", test_mode="inference")

    def load(self, moment: Literal["before", "after"]) -> None:
        """Bring the scene to what it was before the first edit, or after the last.

        Raises:
            ModelError: if its checkpoint is gone or damaged.
        """
        path = self.session.start_checkpoint if moment == "before" else find_checkpoint(self.run)
        state = read_checkpoint(path)
        weights = model_weights(path, state["pipeline"], self.pipeline.state_dict())
        with _quiet():
            self.pipeline.load_pipeline(weights, int(state["step"]))

    @torch.no_grad()
    def render(self, camera: OrbitCamera, size: int) -> Image:
        """What a camera of the blocks world sees, as a square picture."""
        from nerfstudio.cameras.cameras import Cameras, CameraType

        outputs: Any = self.pipeline.datamanager.train_dataparser_outputs  # pyright: ignore[reportAttributeAccessIssue]
        pose = outputs.dataparser_transform @ camera_to_world(camera)
        pose[:3, 3] *= outputs.dataparser_scale
        focal = focal_length(camera, size)
        cameras = Cameras(
            camera_to_worlds=pose[None],
            fx=focal,
            fy=focal,
            cx=0.5 * size,
            cy=0.5 * size,
            width=size,
            height=size,
            camera_type=CameraType.PERSPECTIVE,
        ).to(self.pipeline.device)
        with _quiet():
            color = self.pipeline.model.get_outputs_for_camera(cameras)["rgb"]
        return color.float().clamp(0, 1).permute(2, 0, 1)[None].cpu()

    def strips(self) -> tuple[Path, ...]:
        """Pictures before | mask | after of the run's edits, latest first."""
        return tuple(self.session.root / r.strip for r in reversed(self.session.records) if r.strip is not None)


@contextmanager
def _quiet() -> Iterator[None]:
    """nerfstudio logs to stdout while it loads, and its dependencies warn about themselves."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
