"""The form benches report in: JSON that every reader takes, and a table that hides nothing."""

import io
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from maskedit.bench.table import Row, describe_machine, make_document, print_table, write_json
from maskedit.editors import InputError

ROWS: list[Row] = [
    {"method": "unedited", "set": "one", "mask_iou": None, "psnr_inside": 11.564, "followed": 0.0, "pictures": 200},
    {"method": "foi", "set": "two, disentangle_end=0.75", "mask_iou": 0.51239, "psnr_inside": 16.2, "seconds": 0.00042},
]


def printed(document: dict, width: int = 80) -> str:
    stream = io.StringIO()
    print_table(document, Console(file=stream, width=width))
    return stream.getvalue()


def test_a_document_survives_json(tmp_path: Path):
    document = make_document("foi", ROWS, "cpu", model="embedded", steps=20)
    path = tmp_path / "deep" / "foi.json"
    write_json(document, path)
    assert json.loads(path.read_text()) == document
    assert [file.name for file in path.parent.iterdir()] == ["foi.json"]
    assert list(document) == ["bench", "machine", "rows", "model", "steps"]
    assert document["rows"] == ROWS


def test_numbers_that_are_not_finite_become_null(tmp_path: Path):
    row: Row = {"method": "m", "set": "s", "a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0, "e": 0}
    document = make_document("x", [row], "cpu", peak=math.inf, flops=0.8)
    assert document["rows"] == [{"method": "m", "set": "s", "a": None, "b": None, "c": None, "d": 0.0, "e": 0}]
    assert (document["peak"], document["flops"]) == (None, 0.8)
    assert math.isnan(row["a"])  # The caller's row is left alone.
    write_json(document, tmp_path / "x.json")
    assert "NaN" not in (tmp_path / "x.json").read_text()


def test_an_existing_file_is_replaced(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text("old and much longer than what is to come" * 99)
    write_json({"bench": "x"}, path)
    assert json.loads(path.read_text()) == {"bench": "x"}


def test_a_path_that_cannot_be_written_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x.json", tmp_path / "folder"):
        with pytest.raises(InputError) as caught:
            write_json({"bench": "x"}, path)
        message = str(caught.value)
        assert str(path) in message
        assert "--json" in message
        assert "\n" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_every_figure_is_printed_at_any_width(width: int):
    text = printed(make_document("foi", ROWS, "cpu"), width)
    lines = text.splitlines()
    assert lines[0] == f"foi on {describe_machine('cpu')['name']}"
    for words in (["unedited", "one", "-", "11.56", "0.000", "200", "-"],):
        assert next(line for line in lines if "unedited" in line).split() == words
    foi = next(line for line in lines if "disentangle_end" in line)
    assert foi.split() == ["foi", "two,", "disentangle_end=0.75", "0.512", "16.20", "-", "-", "0.00042"]
    header = " ".join(lines[1 : next(i for i, line in enumerate(lines) if "─" in line)])
    for name in ("method", "set", "mask_iou", "psnr_inside", "followed", "pictures", "seconds"):
        assert all(part in header for part in name.split("_"))
    assert "…" not in text


def test_rows_without_figures_and_documents_without_rows_print():
    assert "nothing" in printed(make_document("x", [{"method": "nothing", "set": "none", "psnr": None}], "cpu"))
    assert printed(make_document("x", [], "cpu")).startswith("x on ")


def test_the_machine_is_described():
    machine = describe_machine(torch.device("cpu"))
    assert machine["device"] == "cpu"
    assert machine["name"]
    assert machine["threads"] == torch.get_num_threads()
    assert int(machine["cores"]) >= 1
    assert machine["torch"] == torch.__version__
