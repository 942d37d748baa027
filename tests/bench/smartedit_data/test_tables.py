"""Sets in tables; what needs pyarrow runs where it is installed."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.pairs import open_instructpix2pix, open_magicbrush
from maskedit.bench.smartedit_data.tables import find_tables
from maskedit.editors import InputError, MissingExtraError, load_image

Rows = list[dict[str, Any]]


@pytest.fixture
def rows(sets: Path) -> Rows:
    folder = sets / "magicbrush" / "train" / "images" / "139306"
    files = [folder / f"139306-{name}.png" for name in ("input", "output1")]
    source, target = ({"bytes": file.read_bytes(), "path": file.name} for file in files)
    return [
        {"img_id": "139306", "turn_index": n, "source_img": source, "target_img": target, "instruction": f"turn {n}"}
        for n in range(5)
    ]


def write_parquet(rows: Rows, path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), str(path), row_group_size=2)


def write_arrow(rows: Rows, path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_rows_of_several_files_are_read(sets: Path, tmp_path: Path, rows: Rows, ending: str) -> None:
    write = write_parquet if ending == "parquet" else write_arrow
    names = ("data/train-00000.parquet", "data/train-00001.parquet") if ending == "parquet" else ("a.arrow", "b.arrow")
    write(rows[:3], tmp_path / names[0])
    write(rows[3:], tmp_path / names[1])
    source = open_magicbrush(tmp_path)
    samples = [source.read(index, np.random.default_rng(0)) for index in range(len(source))]
    assert [sample.text for sample in samples] == [f"turn {number}" for number in range(5)]
    folder = sets / "magicbrush" / "train" / "images" / "139306"
    assert torch.equal(samples[4].image, load_image(folder / "139306-input.png")[0])
    assert samples[4].target.shape == (3, 10, 10)


def test_other_columns_are_refused(tmp_path: Path, rows: Rows) -> None:
    write_parquet(rows, tmp_path / "data" / "train-00000.parquet")
    with pytest.raises(InputError, match=r"train-00000\.parquet .*\(no 'original_image'\)"):
        open_instructpix2pix(tmp_path)


def test_broken_rows_are_named(tmp_path: Path, rows: Rows) -> None:
    rows[3]["target_img"] = {"bytes": b"broken", "path": ""}
    write_parquet(rows, tmp_path / "data" / "train-00000.parquet")
    with pytest.raises(InputError, match=r"cannot read row 3 of .*train-00000\.parquet, target_img as a picture"):
        open_magicbrush(tmp_path).read(3, np.random.default_rng(0))


def test_broken_tables_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "train.parquet").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"train\.parquet is not of the form"):
        open_magicbrush(tmp_path)


def test_without_pyarrow_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "train.parquet").touch()
    with pytest.raises(MissingExtraError, match=r"needs the package pyarrow: install it with `pip install pyarrow`"):
        open_magicbrush(tmp_path)


def test_the_training_part_comes_first(tmp_path: Path) -> None:
    assert find_tables(tmp_path) == ()
    for name in ("dev-00000.parquet", "train-00000.parquet", "train-00001.parquet"):
        (tmp_path / name).touch()
    assert [path.name for path in find_tables(tmp_path)] == ["train-00000.parquet", "train-00001.parquet"]
