"""Elements that nerfstudio's viewer lacks: text and pictures that are only shown, and folders in a chosen order.

nerfstudio looks for elements among the attributes of the pipeline and of the modules within it, in the order of the
attributes' names, and shows modules as folders.
"""

import base64
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from nerfstudio.viewer.viewer_elements import ViewerElement
from PIL import Image as Picture
from torch import Tensor, nn

JPEG_QUALITY = 90
PICTURE_WIDTH = 1200
"""Pixels of a picture in the viewer, at most; its panel is narrower, but can be enlarged by the browser."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~$-])")


class ControlFolder(nn.Module):
    """A folder of the viewer.

    Args:
        elements: what is in it, in this order; elements and controls of nerfstudio.
    """

    def __init__(self, elements: Mapping[str, object]) -> None:
        super().__init__()
        for place, (name, element) in enumerate(elements.items()):
            setattr(self, f"e{place:02d}_{name}", element)


class ViewerMarkdown(ViewerElement[str]):
    """Text or a picture that is only shown.

    Args:
        content: markdown; text of others goes through `as_plain` first.
        visible: whether it is shown at first.
    """

    def __init__(self, content: str = "", *, visible: bool = True) -> None:
        super().__init__("", visible=visible)
        self._content = content
        self._handle: Any = None

    @property
    def content(self) -> str:
        """What is shown."""
        return self._content

    @content.setter
    def content(self, content: str) -> None:
        changed, self._content = content != self._content, content
        if changed and self._handle is not None:
            self._handle.content = content

    def _create_gui_handle(self, viser_server: Any) -> None:
        # A root is given because viser warns of pictures without one, even of those that are in the text.
        self._handle = self.gui_handle = viser_server.gui.add_markdown(
            self._content, image_root=Path(), visible=self.visible
        )

    def install(self, viser_server: Any) -> None:
        """Make it, in the folder that the viewer is filling."""
        self._create_gui_handle(viser_server)


def as_plain(text: str) -> str:
    """Text as markdown that reads the same; the viewer's markdown takes braces and angles for code."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def as_markdown(picture: UInt8[Tensor, "height width 3"], alt: str) -> str:
    """A picture as markdown, with its pixels in the text; small ones are enlarged, large ones made smaller."""
    buffer, drawn = io.BytesIO(), Picture.fromarray(picture.contiguous().numpy())
    share = max(1, PICTURE_WIDTH // drawn.width) if drawn.width < PICTURE_WIDTH else PICTURE_WIDTH / drawn.width
    size = (max(1, round(drawn.width * share)), max(1, round(drawn.height * share)))
    drawn = drawn.resize(size, Picture.Resampling.NEAREST if share > 1 else Picture.Resampling.LANCZOS)
    drawn.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"![{as_plain(alt)}](data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')})"


def set_visible(element: ViewerElement[Any], visible: bool) -> None:
    """Show or hide an element, whether or not a viewer has made it yet."""
    element.visible = visible
    if element.gui_handle is not None:
        element.set_visible(visible)
