"""Regions from the viewer: nerfstudio's crop box, and rectangles drawn on what the viewer's camera shows."""

from typing import Any

from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerControl,
    ViewerDropdown,
    ViewerElement,
    ViewerRectSelect,
)

from ..editors import InputError
from .lift_regions import box_event, clear_event, mark_event
from .viewer_preview import PanelOwner

ALL = "all instructions"
LIMIT, REPLACE = "edit inside it only", "edit all of it"
BELONGS, OUTSIDE = "is to be edited", "is to be left alone"
DRAWING_HEIGHT = 512
"""Pixels of a drawing; its width follows from the window."""


class RegionPanel:
    """Where the user says by hand what may change; needs masks that are lifted into the scene.

    Args:
        owner: the controls it is part of.
    """

    def __init__(self, owner: PanelOwner) -> None:
        self._owner: Any = owner
        texts = [each.text for each in self._owner.pipeline.config.read_instructions()]
        self.instruction = ViewerDropdown("Region of", ALL, [ALL, *dict.fromkeys(texts)])
        self.use = ViewerDropdown("A box means", LIMIT, [LIMIT, REPLACE], hint="The box of the viewer's Crop Viewport.")
        self.meaning = ViewerDropdown("A rectangle", BELONGS, [BELONGS, OUTSIDE])
        self.control = ViewerControl()
        self.elements: dict[str, ViewerElement[Any]] = {
            "instruction": self.instruction,
            "use": self.use,
            "box": ViewerButton("Take the crop box", cb_hook=owner.asking(self._take_box)),
            "meaning": self.meaning,
            "draw": ViewerButton("Draw a rectangle", cb_hook=owner.asking(self._begin_drawing)),
            "clear": ViewerButton("Forget regions", cb_hook=owner.asking(self._clear)),
        }

    def offer(self, texts: list[str]) -> None:
        """Offer the instructions that hold now."""
        options = [ALL, *dict.fromkeys(texts)]
        if self.instruction.options != options:
            self.instruction.set_options(options)
            if self.instruction.value not in options:
                self.instruction.value = ALL

    @property
    def _chosen(self) -> str | None:
        return None if self.instruction.value == ALL else self.instruction.value

    def _viewer(self) -> Any:
        """The viewer, where regions are of any use.

        Raises:
            InputError: if they are not.
        """
        if self._owner.pipeline.config.masks != "lifted":
            raise InputError("regions are part of masks that are lifted: begin the run with --pipeline.masks lifted")
        viewer = getattr(self.control, "viewer", None)
        if viewer is None:
            raise InputError("expected a viewer, found none: open the page first")
        return viewer

    def _take_box(self) -> None:
        panel = self._viewer().control_panel
        if not panel.crop_viewport:
            raise InputError("expected a crop box, found none: tick Enable under Crop Viewport and move the box first")
        box = panel.crop_obb
        rotation: Any = tuple(tuple(row) for row in box.R.tolist())
        how = "limit" if self.use.value == LIMIT else "replace"
        owner, centre, size = self._owner, tuple(box.T.tolist()), tuple(box.S.tolist())
        event = box_event(owner.step, centre=centre, size=size, rotation=rotation, how=how, instruction=self._chosen)
        owner.add_event(event)
        owner.status.say(f"the box holds for {self.instruction.value} from the next edit on")

    def _begin_drawing(self) -> None:
        self._viewer()
        self.control.register_pointer_cb("rect-select", self._drawn)
        self._owner.status.say("drag a rectangle over the picture")

    def _drawn(self, selected: ViewerRectSelect) -> None:
        self.control.unregister_pointer_cb()
        self._owner.asking(lambda: self._take_rectangle(selected))(selected)

    def _take_rectangle(self, selected: ViewerRectSelect) -> None:
        clients = list(self._viewer().viser_server.get_clients().values())
        width = max(1, round(DRAWING_HEIGHT * (clients[0].camera.aspect if clients else 1)))
        camera = self.control.get_camera(DRAWING_HEIGHT, width)
        if camera is None:
            raise InputError("expected an open page, found none: open the viewer first")
        (left, top), (right, bottom) = selected.min_bounds, selected.max_bounds
        edges = (round(left * width), round(top * DRAWING_HEIGHT), round(right * width), round(bottom * DRAWING_HEIGHT))
        owner = self._owner
        event = mark_event(
            owner.session,
            owner.step,
            camera=camera,
            drawn=edges,
            says_yes=self.meaning.value == BELONGS,
            instruction=self._chosen,
        )
        owner.add_event(event)
        owner.status.say(f"what was drawn {self.meaning.value}, for {self.instruction.value} from the next edit on")

    def _clear(self) -> None:
        self._viewer()
        self._owner.add_event(clear_event(self._owner.step, self._chosen))
        self._owner.status.say(f"regions of {self.instruction.value} are forgotten")
