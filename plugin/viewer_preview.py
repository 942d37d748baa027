"""The viewer's look at single views: what an edit would make of one now, what it shows, and where its mask lies."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerCheckbox,
    ViewerControl,
    ViewerDropdown,
    ViewerElement,
    ViewerSlider,
)
from torch import Tensor

from ..editors import InputError
from .preview import Preview, preview_edit, shown_edit
from .storage import from_bytes, to_bytes
from .viewer_elements import ViewerMarkdown, as_markdown, as_plain

VIEWER_SCALE = 10.0
"""The viewer's lengths are those of the scene times this."""
CLOUD = "/maskedit/mask"
DIMMED = 0.35
"""Brightness of what lies outside a mask."""
_RED = (230, 60, 40)


@runtime_checkable
class PanelOwner(Protocol):
    """What the parts of the controls need of the whole."""

    fields: Any
    status: Any

    def asking(self, action: Any) -> Any:
        """A callback that asks the trainer."""
        ...

    def add_event(self, event: Any) -> None:
        """Keep what the user asked for."""
        ...


class PreviewPanel:
    """A view, its preview as a picture before | mask | after, and its mask in the scene.

    Args:
        owner: the controls it is part of.
    """

    def __init__(self, owner: PanelOwner) -> None:
        self._owner: Any = owner
        data, config = self._owner.pipeline.datamanager, self._owner.pipeline.config
        self._names = [f"{view}: {data.photo_name(view)}" for view in range(len(data.views))]
        self.view = ViewerDropdown("View", self._names[0], self._names)
        low, high = config.lower_bound, config.upper_bound
        level = round(low + 0.8 * (high - low), 2)
        self.noise = ViewerSlider(
            "Noise level", level, 0.01, 1.0, 0.01, hint="Share of the noise it starts from; edits of the run draw one."
        )
        self.in_scene = ViewerCheckbox(
            "Mask in the scene", False, cb_hook=owner.asking(lambda: self._draw_mask(self._last))
        )
        self.picture = ViewerMarkdown("")
        self.control = ViewerControl()
        self._last: Preview | None = None
        self._cloud: Any = None
        self.elements: dict[str, ViewerElement[Any]] = {
            "view": self.view,
            "noise": self.noise,
            "preview": ViewerButton("Preview the edit", cb_hook=owner.asking(self._preview)),
            "shown": ViewerButton("Show its last edit", cb_hook=owner.asking(self._show_edit)),
            "in_scene": self.in_scene,
            "picture": self.picture,
        }

    @property
    def chosen(self) -> int:
        """Place of the chosen view in the working set."""
        return self._names.index(self.view.value)

    def _preview(self) -> None:
        owner = self._owner
        found = preview_edit(
            owner.edits,
            self.chosen,
            owner.fields.settings,
            noise_level=float(self.noise.value),
            reuses_masks=owner.pipeline.config.masks != "every-edit",
        )
        self._show(found, f"preview of {self.view.value}, {found.seconds:.1f} s: before | mask | after")

    def _show_edit(self) -> None:
        owner = self._owner
        found = shown_edit(owner.edits, self.chosen, owner.step)
        self._show(found, f"last edit of {self.view.value}: before | mask | after")

    def _show(self, found: Preview, title: str) -> None:
        if found.after is None:
            self.picture.content = as_plain(f"{self.view.value}: {found.reason}")
            self._owner.status.say(f"{self.view.value}: {found.reason}")
        else:
            self.picture.content = f"{as_plain(title)}\n\n{as_markdown(overlay_strip(found), title)}"
        self._last = found
        if self.in_scene.value:
            self._draw_mask(found)

    def _draw_mask(self, found: Preview | None) -> None:
        """Show the masked pixels as points of the scene, or take them away."""
        viewer = getattr(self.control, "viser_server", None)
        if viewer is None:
            return
        if self._cloud is not None:
            self._cloud.remove()
            self._cloud = None
        if not self.in_scene.value:
            return
        if found is None or found.mask is None:
            raise InputError("no mask to show: press 'Preview the edit' or 'Show its last edit' first")
        points = self._owner.pipeline.renderer.render(found.view).points
        inside = points[(found.mask > 127) & torch.isfinite(points).all(dim=-1)]
        self._cloud = viewer.scene.add_point_cloud(
            CLOUD, inside.numpy() * VIEWER_SCALE, np.array(_RED, dtype=np.uint8), point_size=0.06, point_shape="circle"
        )


def overlay_strip(found: Preview) -> UInt8[Tensor, "strip_height strip_width 3"]:
    """before | mask on the photo | after, at full size; what lies outside the mask is dimmed.

    Args:
        found: with a mask and an edit.
    """
    if found.mask is None or found.after is None:
        return found.before
    share = DIMMED + (1 - DIMMED) * from_bytes(found.mask)[..., None]
    gap = torch.full((found.mask.shape[0], 2, 3), 255, dtype=torch.uint8)
    return torch.cat([found.before, gap, to_bytes(from_bytes(found.before) * share), gap, found.after], dim=1)
