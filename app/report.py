"""A report as one HTML file with everything in it: text, tables, galleries of pictures, clips."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TypeAlias, assert_never

from jaxtyping import Float
from torch import Tensor

from ..editors import image_to_pil
from .pictures import write_text

Cell: TypeAlias = str | float | int | None
Picture: TypeAlias = Float[Tensor, "_ _ _ _"]
"""An image or a mask; those of a row may have different sizes."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Figures."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Rows of pictures under common headings."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Picture, ...]], ...]
    """What is said beside each row, and its pictures (the first of each batch)."""
    width: int = 128
    """Width of each picture on the page, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """An mp4 that plays again and again."""

    caption: str
    path: Path


Part: TypeAlias = str | Table | Gallery | Clip
"""A string is a paragraph."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report under a heading."""

    title: str
    parts: tuple[Part, ...]


_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; padding-bottom: .4rem; opacity: .75; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: middle; font-weight: normal; }
thead th { border-bottom: 1px solid; font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { display: block; image-rendering: pixelated; }
video { display: block; max-width: 100%; margin: 1rem 0 .3rem; }
.scroll { overflow-x: auto; }
"""


def write_report(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write a report; pictures and clips are part of the file.

    Raises:
        InputError: if it cannot be written.
    """
    body = "".join(_section_to_html(section) for section in sections)
    return write_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n",
    )


def _section_to_html(section: Section) -> str:
    return f"<h2>{escape(section.title)}</h2>" + "".join(_part_to_html(part) for part in section.parts)


def _part_to_html(part: Part) -> str:
    match part:
        case str():
            return f"<p>{escape(part)}</p>"
        case Table():
            return _table_to_html(part)
        case Gallery():
            return _gallery_to_html(part)
        case Clip():
            source = _data_address(part.path.read_bytes(), "video/mp4")
            video = f'<video src="{source}" autoplay loop muted playsinline controls></video>'
            return f"{video}<p>{escape(part.caption)}</p>"
        case _:
            assert_never(part)


def _table_to_html(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(_cell_to_html(cell) for cell in row) + "</tr>" for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>"
    return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell_to_html(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f'<td class="number">{format_number(cell)}</td>'


def format_number(value: float | int | None) -> str:
    """A figure as tables show it; None = not measured or undefined."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _gallery_to_html(gallery: Gallery) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in gallery.columns)
    rows: list[str] = []
    for text, pictures in gallery.rows:
        cells = "".join(f"<td>{_picture_to_html(each, gallery.width)}</td>" for each in pictures)
        rows.append(f"<tr>{cells}<td>{escape(text)}</td></tr>")
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}<th></th></tr></thead><tbody>{body}</tbody></table></div>'


def _picture_to_html(picture: Picture, width: int) -> str:
    buffer = io.BytesIO()
    image_to_pil(picture).save(buffer, format="PNG")
    return f'<img width="{width}" alt="" src="{_data_address(buffer.getvalue(), "image/png")}">'


def _data_address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
