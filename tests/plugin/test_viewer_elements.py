"""Folders keep their order; text and pictures come as markdown that the viewer does not take for code."""

import base64
import io

import numpy as np
import torch
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerElement
from PIL import Image as Picture

from maskedit.plugin.viewer_elements import ControlFolder, ViewerMarkdown, as_markdown, as_plain, set_visible


class Gui:
    """Remembers what was asked of viser."""

    def __init__(self) -> None:
        self.gui, self.asked = self, []

    def add_markdown(self, content: str, **options: object) -> "Gui":
        self.asked.append((content, options["visible"]))
        return self


def test_a_folder_shows_its_elements_in_the_order_they_were_given() -> None:
    names = [f"z{20 - i}" for i in range(12)]
    root = torch.nn.Module()
    root.Folder = ControlFolder({name: ViewerButton(name, cb_hook=lambda element: None) for name in names})
    found = parse_object(root, ViewerElement, "Custom Elements")
    assert [element.name for _, element in found] == names
    assert all(path.startswith("Custom Elements/Folder/") for path, _ in found)
    assert not root.state_dict()


def test_markdown_is_made_with_its_content_and_follows_it() -> None:
    element, gui = ViewerMarkdown("before"), Gui()
    element.content = "now"
    element.install(gui)
    assert gui.asked == [("now", True)]
    element.content = "then"
    assert (element.content, gui.content) == ("then", "then")


def test_plain_text_has_nothing_that_markdown_reads() -> None:
    text = "a {b} <c> [d](e) *f* `g` # h"
    escaped = as_plain(text)
    assert escaped.replace("\\", "") == text
    for place, letter in enumerate(escaped):
        if letter in "{}<>[]()*`#":
            assert escaped[place - 1] == "\\"
    assert as_plain("two\n  lines") == "two lines"


def test_a_picture_travels_in_the_text() -> None:
    for size, expected in (((6, 8), (900, 1200)), ((10, 700), (10, 700)), ((40, 2400), (20, 1200))):
        text = as_markdown(torch.full((*size, 3), 200, dtype=torch.uint8), "a view")
        assert text.startswith("![a view](data:image/jpeg;base64,")
        data = base64.b64decode(text.split(",", 1)[1][:-1])
        shown = np.asarray(Picture.open(io.BytesIO(data)))
        assert shown.shape == (*expected, 3)
        assert abs(int(shown[3, 4, 0]) - 200) <= 2


def test_elements_can_be_hidden_before_a_viewer_makes_them() -> None:
    element = ViewerButton("press", cb_hook=lambda element: None)
    set_visible(element, False)
    assert element.visible is False
