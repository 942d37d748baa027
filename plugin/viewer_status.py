"""What the viewer says about the run: how far it is, what was last done, and what could not be done."""

from collections import deque

from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from .viewer_elements import ViewerMarkdown, as_plain

MESSAGES = 3
"""Lines that stay visible."""


class ViewerStatus:
    """Lines in the viewer, which also go to the console."""

    def __init__(self) -> None:
        self.element = ViewerMarkdown("waiting for the first step")
        self._progress, self._last_edit = "waiting for the first step", ""
        self._messages: deque[str] = deque(maxlen=MESSAGES)
        self._is_waiting = False

    @property
    def text(self) -> str:
        """What is shown."""
        return self.element.content

    def report(self, line: str) -> None:
        """Tell of an edit."""
        CONSOLE.log(escape(line))
        self._last_edit = line
        self._draw()

    def show_waiting(self, is_waiting: bool) -> None:
        """Tell that something was asked for and is not answered yet."""
        if is_waiting != self._is_waiting:
            self._is_waiting = is_waiting
            self._draw()

    def say(self, line: str) -> None:
        """Tell what was done at the user's wish."""
        CONSOLE.log(f"maskedit: {escape(line)}")
        self._messages.append(as_plain(line))
        self._draw()

    def fail(self, line: str) -> None:
        """Tell what could not be done."""
        CONSOLE.log(f"[bold red]maskedit: {escape(line)}")
        self._messages.append(f"**Not done:** {as_plain(line)}")
        self._draw()

    def show_progress(self, line: str) -> None:
        """Tell how far the run is."""
        if line != self._progress:
            self._progress = line
            self._draw()

    def _draw(self) -> None:
        lines = [f"**{as_plain(self._progress)}**"]
        lines += [as_plain(self._last_edit)] if self._last_edit else []
        lines += ["*Asked; the answer comes before the next step.*"] if self._is_waiting else []
        self.element.content = "\n\n".join([*lines, *(f"- {each}" for each in self._messages)])
