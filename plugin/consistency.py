"""What ties the views of a scene together while they are edited, beyond the scene they share.

Dataset updates agree on an edit by averaging what the editor makes of each view. Two things make the views agree more
before that: start noise that is the same on a surface from wherever it is seen (`noise.py`), and self-attention in
which the views of a batch read each other (`editors/core/view_sharing.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from nerfstudio.cameras.cameras import Cameras

from ..editors import EditRequest, InputError, ViewSharing
from .editor import SceneEditorConfig
from .noise import AnchoredNoise, pixel_footprints
from .slot import EditView
from .update import Draw, seed_for

_LEAST_DISPARITY = 0.005
"""One over scene units. nerfacto puts what it sees nowhere into its last sample, whose middle lies before the far
plane; cameras are scaled into a box of 2 units, so that nothing this far off is told from the horizon."""


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig:
    """What makes views agree about an edit before the scene averages them."""

    noise: Literal["independent", "shared", "anchored"] = "independent"
    """Start noise of an edit: each view's own, the same picture of noise for all views of a sweep, or fixed to the
    surfaces of the scene, so that all views of a sweep see the same noise on them (what no surface is seen of keeps
    noise of its own). Each sweep has other noise."""
    cell: float = 0.25
    """Side of the cells that anchored noise cuts space into, as a share of what a latent pixel covers, in (0, 1].
    Larger ones agree better between views and make neighbours in a view more alike."""
    share_views: Literal["none", "all", "references"] = "none"
    """Self-attention of the views of a batch: each its own, to all views of the batch at once (as DGE and TokenFlow
    have it), or mixed with that to some reference views (GaussCtrl). Needs an --pipeline.edit-count above 1. A
    checkpoint was not trained to read other views, so look at some edits first: it may leave some views unedited."""
    references: int = 4
    """How many views of a batch are references, at least 1; read with share-views references."""
    own_share: float | None = None
    """Share of a view's own self-attention in the mixture, in [0, 1]; None = 0 with share-views all and 0.6 with
    references, as published."""

    def __post_init__(self) -> None:
        if not 0 < self.cell <= 1:
            raise ValueError(f"cell must be in (0, 1], got {self.cell:g}")
        # The same bounds hold whether or not views are shared, so that a mistake shows at once.
        ViewSharing(references=self.references, own_share=self.own_share)

    @property
    def sharing(self) -> ViewSharing | None:
        """How the views of a batch share self-attention."""
        if self.share_views == "none":
            return None
        return ViewSharing(among=self.share_views, references=self.references, own_share=self.own_share)

    def check(self, editor: SceneEditorConfig, edit_count: int) -> None:
        """Refuse what an editor or a batch cannot do.

        Args:
            editor: whose options say how many views run at once.
            edit_count: views edited together.

        Raises:
            InputError: naming the flag to change.
        """
        if self.noise != "independent" and not editor.draws_noise:
            raise InputError(
                f"{editor.name} inverts the picture and draws no noise that could be {self.noise}: pass "
                "--pipeline.consistency.noise independent or another --pipeline.editor.name"
            )
        if self.share_views == "none":
            return
        if edit_count < 2:
            raise InputError(
                f"views share attention within a batch and edit-count is {edit_count}: pass --pipeline.edit-count 4 or "
                "--pipeline.consistency.share-views none"
            )
        chunk = editor.chosen.chunk
        if chunk is not None and chunk < edit_count:
            raise InputError(
                f"{edit_count} views share attention and must run together, but chunk is {chunk}: pass "
                f"--pipeline.editor.{editor.name}.chunk {edit_count} or --pipeline.consistency.share-views none"
            )


class ViewTies:
    """Ties the views of a batch together as configured.

    Args:
        config: how.
        camera: the camera of a view, at the resolution of its photo.
        seed: of the run.
        far_plane: distance at which rays end, in scene units.
    """

    def __init__(
        self,
        config: ConsistencyConfig,
        camera: Callable[[int], Cameras],
        *,
        seed: int,
        far_plane: float = float("inf"),
    ) -> None:
        self._config, self._camera, self._seed = config, camera, seed
        self._far = 1 / (1 / far_plane + _LEAST_DISPARITY)

    def check(self, editor: SceneEditorConfig, edit_count: int) -> None:
        """Refuse an editor that could not edit the views of a batch so tied.

        Args:
            editor: whose options say how many views run at once.
            edit_count: views edited together.

        Raises:
            InputError: naming the flag to change.
        """
        self._config.check(editor, edit_count)

    def tie(self, request: EditRequest, views: Sequence[EditView]) -> EditRequest:
        """The request with what its views share; an editor that inverts them draws no noise to be replaced."""
        if self._config.noise == "anchored" and request.noise_levels is not None:
            request = replace(request, noise=self._anchor(views))
        return replace(request, sharing=self._config.sharing)

    def _anchor(self, views: Sequence[EditView]) -> AnchoredNoise:
        points = [torch.full((1, 1, 3), torch.nan) if view.points is None else view.points for view in views]
        # Where the pose that is optimised lies a little beside the camera's, footprints are as good.
        cameras = [self._camera(view.turn.view) for view in views]
        footprints = [pixel_footprints(*each, far=self._far) for each in zip(cameras, points, strict=True)]
        return AnchoredNoise(
            torch.stack(points),
            torch.stack(footprints),
            # One seed for a sweep: noise that stayed for the whole run would leave its pattern in the scene.
            tuple(seed_for(self._seed, Draw.ANCHORS, view.turn.sweep) for view in views),
            cell=self._config.cell,
        )
