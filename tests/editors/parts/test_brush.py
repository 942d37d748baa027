"""A brush on disk: the same tensors and header after a round trip, and one line about every file that is none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.errors import InputError, ModelError
from maskedit.editors.parts.brush import Brush, fingerprint_brush, load_brush, read_header, tensor_widths
from maskedit.editors.parts.brush_options import BrushRecipe
from maskedit.editors.parts.brush_rows import begin_brush


@pytest.fixture
def brush(backbone: Backbone) -> Brush:
    return begin_brush(backbone, BrushRecipe(init_text="turn red into blue"), name="blue")


@pytest.mark.parametrize("learn", ["attention", "embedding"])
def test_a_round_trip_changes_nothing(backbone: Backbone, tmp_path: Path, learn: Any) -> None:
    """I9."""
    brush = begin_brush(backbone, BrushRecipe(learn=learn), name="b")
    path = brush.save(tmp_path / "deep" / "b.safetensors")
    again = load_brush(path)
    assert again.tensors.keys() == brush.tensors.keys()
    assert all(torch.equal(again.tensors[name], rows) for name, rows in brush.tensors.items())
    assert all(rows.dtype == torch.float32 for rows in again.tensors.values())
    assert json.dumps(vars(again.header)) == json.dumps(vars(brush.header))
    with safe_open(path, framework="pt") as file:
        layers = len(brush.header.widths)
        assert len(file.keys()) == (5 * layers * 2 if learn == "attention" else 5)


def test_the_header_reads_alone(brush: Brush, tmp_path: Path) -> None:
    header = read_header(brush.save(tmp_path / "b.safetensors"))
    assert (header.kind, header.initial_text, header.segments) == ("instructbrush", "turn red into blue", 5)
    assert header.recipe["learning_rate"] == 1e-3
    assert "torch" in header.versions


def test_a_published_size_takes_five_megabytes() -> None:
    """Section 2 of the method: 1.25 million numbers for ten tokens."""
    widths = {f"layer{i}": width for i, width in enumerate([320] * 5 + [640] * 5 + [1280] * 6)}
    assert 2 * 5 * 10 * sum(widths.values()) == 1_248_000


@pytest.mark.parametrize(
    ("text", "own"),
    [("blue", True), (" Blue ", True), ("turn red  into blue", True), ("red", False), ("make it blue", False)],
)
def test_it_answers_to_its_name_and_its_text(brush: Brush, text: str, own: bool) -> None:
    assert brush.answers_to(text) == own


def test_no_brush_answers_to_nothing(backbone: Backbone) -> None:
    assert not begin_brush(backbone, BrushRecipe(), name="b").answers_to("")


def test_tensors_of_another_shape_are_refused(brush: Brush) -> None:
    names = list(tensor_widths(brush.header))
    for tensors in (
        {**brush.tensors, names[0]: brush.tensors[names[0]][:4]},
        {**brush.tensors, "x": torch.zeros(1, 1, 1)},
    ):
        with pytest.raises(ModelError, match="the file is damaged"):
            Brush(brush.header, tensors)


def test_files_that_are_no_brush_are_refused(brush: Brush, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    with pytest.raises(ModelError, match="there is no such file"):
        load_brush(path)
    with pytest.raises(ModelError, match="it is a folder"):
        load_brush(tmp_path)
    path.write_bytes(b"PK not a tensor file")
    with pytest.raises(ModelError, match="cannot read a brush"):
        load_brush(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="is no brush"):
        load_brush(path)
    header = json.dumps({"format": 2})
    save_file({"a": torch.zeros(1)}, path, metadata={"maskedit_brush": header})
    with pytest.raises(ModelError, match="another version"):
        load_brush(path)
    header = json.dumps({"format": 1, **vars(brush.header)})
    save_file({"a": torch.zeros(1)}, path, metadata={"maskedit_brush": header})
    with pytest.raises(ModelError, match="lacks 0"):
        load_brush(path)
    header = json.dumps({"format": 1, **vars(brush.header), "kind": "magic"})
    save_file({"a": torch.zeros(1)}, path, metadata={"maskedit_brush": header})
    with pytest.raises(ModelError, match="unknown kind"):
        load_brush(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(brush: Brush, tmp_path: Path, value: float) -> None:
    name = list(tensor_widths(brush.header))[-1]
    rows = brush.tensors[name].clone()
    rows[-1, -1, -1] = value
    path = Brush(brush.header, {**brush.tensors, name: rows}).save(tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match=rf"b.safetensors has numbers that are not finite in {name}: .*learn it again"):
        load_brush(path)


def test_a_half_written_file_is_never_seen(brush: Brush, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --out"):
        brush.save(tmp_path / "file" / "b.safetensors")
    brush.save(tmp_path / "b.safetensors")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["b.safetensors", "file"]


def test_fingerprints_tell_brushes_apart(brush: Brush, tmp_path: Path) -> None:
    path = brush.save(tmp_path / "b.safetensors")
    before = fingerprint_brush(path)
    name = next(iter(brush.tensors))
    Brush(brush.header, {**brush.tensors, name: brush.tensors[name] + 1}).save(path)
    assert fingerprint_brush(path) != before
    assert fingerprint_brush(None) == ""
    with pytest.raises(ModelError, match="correct the path"):
        fingerprint_brush(tmp_path / "none")
