"""Reports stand alone, escape what they are told, and hold every picture."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from maskedit.app.report import Clip, Gallery, Section, Table, format_number, write_report
from maskedit.editors import InputError


class _Checker(HTMLParser):
    """Fails on tags that are not closed, and collects addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_is_one_file_with_everything_in_it(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"frames")
    picture = torch.zeros(1, 3, 4, 6)
    picture[:, 0] = 1
    sections = [
        Section(
            title="A < B",
            parts=(
                "make the <b> bold",
                Table(caption="figures & more", columns=("", "dB"), rows=(("foi", 12.345), ("none", None))),
                Gallery(columns=("red", "mask"), rows=(("first", (picture, torch.ones(1, 1, 4, 6))),)),
                Clip(caption="around", path=clip),
            ),
        )
    ]
    path = write_report(tmp_path / "deep" / "report.html", "title", sections)
    text = path.read_text()
    checker = _Checker()
    checker.feed(text)
    assert not checker.open
    assert "make the &lt;b&gt; bold" in text
    assert "A &lt; B" in text
    assert "12.3" in text
    kinds = [source.split(";")[0] for source in checker.sources]
    assert kinds == ["data:image/png", "data:image/png", "data:video/mp4"]
    content = [base64.b64decode(source.split(",")[1]) for source in checker.sources]
    (tmp_path / "red.png").write_bytes(content[0])
    assert np.array(PilImage.open(tmp_path / "red.png"))[0, 0].tolist() == [255, 0, 0]
    assert content[2] == b"frames"
    assert not re.search(r"https?://", text)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "-"), (3, "3"), (0.123, "0.12"), (17.26, "17.3"), (-2.5, "-2.50")]
)
def test_figures_are_short(value: float | int | None, expected: str) -> None:
    assert format_number(value) == expected


def test_a_report_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_report(tmp_path / "report.html", "title", [])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
