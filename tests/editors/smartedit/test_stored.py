"""Tensors come back by name, or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from maskedit.editors.core.errors import ModelError
from maskedit.editors.smartedit.stored import fill_tensors

STORED = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


def empty() -> dict[str, Tensor]:
    return {name: torch.zeros_like(each) for name, each in STORED.items()}


def test_every_tensor_comes_back_in_its_place(tmp_path: Path) -> None:
    own = empty()
    own["b"] = torch.nn.Parameter(own["b"])
    places = {name: each.data_ptr() for name, each in own.items()}
    save_file({**STORED, "b": STORED["b"].bfloat16()}, tmp_path / "x.safetensors")
    fill_tensors(own, tmp_path / "x.safetensors", beside="the rest", hint="fetch it again")
    assert all(torch.equal(each, STORED[name]) and each.data_ptr() == places[name] for name, each in own.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": None}, "b, 1 tensors"),
        ({"c": torch.ones(1)}, "c, 1 tensors"),
        ({"a": torch.ones(3, 2), "b": torch.ones(3)}, "a, 2 tensors"),
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    own, path = empty(), tmp_path / "x.safetensors"
    save_file({name: each for name, each in {**STORED, **change}.items() if each is not None}, path)
    with pytest.raises(ModelError, match=rf"does not fit the rest \({message}\): fetch it again"):
        fill_tensors(own, path, beside="the rest", hint="fetch it again")
    assert not any(each.any() for each in own.values())


def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(b"no")
    for name in ("damaged", "absent"):
        with pytest.raises(ModelError, match="cannot read") as caught:
            fill_tensors(empty(), tmp_path / name, beside="the rest", hint="fetch it again")
        assert "\n" not in str(caught.value)
