"""The one form every bench reports in: a JSON document, and the same as a table.

`{"bench": name, "machine": {...}, "rows": [{"method": ..., "set": ..., metric: number or null, ...}, ...]}`
"""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from ..editors import InputError, write_atomic

Row: TypeAlias = dict[str, str | float | int | None]
Document: TypeAlias = dict[str, Any]
T = TypeVar("T")
_WIDEST = 1000
_SMALL, _LARGE = 0.01, 10


def describe_machine(device: torch.device | str) -> dict[str, str | int]:
    """What the figures of a document were measured on."""
    place = torch.device(device)
    name = _processor_name() if place.type == "cpu" else torch.get_device_module(place).get_device_name(place)
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
    """A document; numbers that are not finite become null, so that the JSON stays readable everywhere.

    Args:
        bench: name of the bench.
        rows: figures, one row per method and set.
        device: where they were measured.
        extra: more entries of the document.
    """
    clean = [{name: _finite(value) for name, value in row.items()} for row in rows]
    more = {name: _finite(value) for name, value in extra.items()}
    return {"bench": bench, "machine": describe_machine(device), "rows": clean, **more}


def _finite(value: T) -> T | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write a document.

    Raises:
        InputError: if the file cannot be written.
    """
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    hint = "choose another --json"
    if path.is_dir():
        raise InputError(f"cannot write {path} (it is a folder): {hint}")
    write_atomic(path, lambda file: file.write(text.encode()), hint=hint, error=InputError)


def print_table(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the rows of a document, one column per metric; a narrow terminal breaks lines rather than lose figures."""
    console = console or Console()
    columns = list(dict.fromkeys(name for row in document["rows"] for name in row))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        numeric = not any(isinstance(row.get(name), str) for row in document["rows"])
        # Names of numbers break at underscores, so that they are hardly wider than the numbers below them.
        header = name.replace("_", "\n") if numeric else name
        table.add_column(header, justify="right" if numeric else "left", no_wrap=True)
    for row in document["rows"]:
        table.add_row(*(_format(row.get(name)) for name in columns))
    # Without a width of its own, rich would cut figures off where the terminal ends.
    table.width = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
    console.print(
        f"{document['bench']} on {document['machine']['name']}", markup=False, highlight=False, soft_wrap=True
    )
    console.print(table, crop=False, soft_wrap=True)


def _format(value: str | float | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        places = ".2g" if 0 < abs(value) < _SMALL else ".3f" if abs(value) < _LARGE else ".2f"
        return f"{value:{places}}"
    return str(value)
