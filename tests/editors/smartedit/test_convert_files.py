"""Weights of published models are read as they lie, and written in pieces that libraries read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskedit.editors.core.errors import ModelError
from maskedit.editors.smartedit.convert_files import WeightFiles, find_weights, write_pieces

TENSORS = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.arange(5.0), "c": torch.ones(2, 2, 2)}


def test_both_forms_read_the_same(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors")
    torch.save(TENSORS, tmp_path / "x.bin")
    for files in (
        WeightFiles([tmp_path / "x.safetensors"]),
        WeightFiles([tmp_path / "x.bin"]),
        WeightFiles.of(TENSORS),
    ):
        assert files.shapes == {"a": (3, 4), "b": (5,), "c": (2, 2, 2)}
        assert all(torch.equal(files.read(name), each) for name, each in TENSORS.items())
        assert files.sample("a", 4) == [0, 3, 7, 11]
        assert files.sample("b", 9) == [0, 1, 2, 3, 4]
        assert files.sample("c", 1) == [1]


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": Path("x")}, tmp_path / "x.bin")
    with pytest.raises(ModelError, match="holds more than tensors, and that may run code"):
        WeightFiles([tmp_path / "x.bin"])
    torch.save([torch.ones(2)], tmp_path / "list.bin")
    (tmp_path / "damaged.safetensors").write_bytes(b"no")
    for name in ("list.bin", "damaged.safetensors", "absent.bin"):
        with pytest.raises(ModelError, match="cannot read the weights") as error:
            WeightFiles([tmp_path / name])
        assert "\n" not in str(error.value)


def test_weights_are_found_by_their_index_and_without(tmp_path: Path) -> None:
    for name in ("pytorch_model-1.bin", "pytorch_model-2.bin", "training_args.bin", "mm_projector.bin"):
        torch.save({}, tmp_path / name)
    found = [path.name for path in find_weights(tmp_path)]
    assert found == ["pytorch_model-1.bin", "pytorch_model-2.bin", "mm_projector.bin"]
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "pytorch_model-2.bin"}}))
    assert [path.name for path in find_weights(tmp_path)] == ["pytorch_model-2.bin", "mm_projector.bin"]
    index.write_text(json.dumps({"weight_map": {"a": "pytorch_model-3.bin"}}))
    with pytest.raises(ModelError, match=r"pytorch_model-3\.bin, found none"):
        find_weights(tmp_path)
    with pytest.raises(ModelError, match="found none"):
        find_weights(tmp_path / "absent")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../model.bin"}}',
        '{"weight_map": {"a": "/model.bin"}}',
        '{"weight_map": {"a": ".."}}',
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_a_damaged_index_is_told_in_one_line(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "inner").mkdir()
    torch.save({}, tmp_path / "model.bin")
    (tmp_path / "inner" / name).write_text(content)
    with pytest.raises(
        ModelError, match=f"cannot (read|understand) .*{name} .*fetch or merge the whole model"
    ) as error:
        find_weights(tmp_path / "inner")
    assert "\n" not in str(error.value)


def test_pieces_hold_everything_once(tmp_path: Path) -> None:
    made: list[str] = []

    def maker(name: str) -> torch.Tensor:
        made.append(name)
        return TENSORS[name]

    sizes = {name: each.nbytes for name, each in TENSORS.items()}
    makers = {name: lambda name=name: maker(name) for name in TENSORS}
    # The bounds may be above the sizes.
    paths = write_pieces(tmp_path, makers, {name: 2 * each for name, each in sizes.items()}, most=132)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(sizes.values())
    assert [path.name for path in paths] == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert [set(load_file(path)) for path in paths] == [{"a"}, {"b", "c"}]
    assert made == ["a", "b", "c"]
    read = WeightFiles(find_weights(tmp_path))
    assert all(torch.equal(read.read(name), each) for name, each in TENSORS.items())
    (one,) = write_pieces(tmp_path / "one", makers, sizes, stem="adapter_model")
    assert (one.name, set(load_file(one))) == ("adapter_model.safetensors", set(TENSORS))


def test_a_disk_that_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="choose another --output"):
        write_pieces(tmp_path / "file" / "inner", {"a": lambda: TENSORS["a"]}, {"a": 48})
