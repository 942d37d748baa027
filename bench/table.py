"""The one form every bench reports in: a JSON document, and the same as a table.

`{"bench": name, "machine": {...}, "rows": [{"method": ..., "set": ..., metric: number or null, ...}, ...]}`
"""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console
from rich.table import Table

from ..editors import InputError

Row: TypeAlias = dict[str, str | float | int | None]
Document: TypeAlias = dict[str, Any]


def describe_machine(device: torch.device | str) -> dict[str, str | int]:
    """What the figures of a document were measured on."""
    place = torch.device(device)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else _processor_name()
    return {
        "device": place.type,
        "name": name,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def make_document(bench: str, rows: Sequence[Row], device: torch.device | str, **extra: object) -> Document:
    """A document; numbers that are not finite become null, so that the JSON stays readable everywhere."""
    clean = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows
    ]
    return {"bench": bench, "machine": describe_machine(device), "rows": clean, **extra}


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write a document.

    Raises:
        InputError: if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(document, indent=2) + "\n")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error}): choose another --json") from error


def print_table(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the rows of a document, one column per metric."""
    console = console or Console()
    columns = list(dict.fromkeys(name for row in document["rows"] for name in row))
    table = Table(title=f"{document['bench']} on {document['machine']['name']}", title_justify="left")
    for name in columns:
        numeric = any(isinstance(row.get(name), (int, float)) for row in document["rows"])
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in document["rows"]:
        table.add_row(*(_format(row.get(name)) for name in columns))
    console.print(table)


def _format(value: str | float | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)
