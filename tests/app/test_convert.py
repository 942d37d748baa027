"""`maskedit convert smartedit` and the doctor's look at what it wrote."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Any:
    """A tiny SmartEdit in the published layout that says its image tokens."""
    name, place = "published_files", repository / "tests" / "editors" / "smartedit" / "published_files.py"
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module.publish(tmp_path_factory.mktemp("published"), learn=60)


def test_published_weights_become_a_checkpoint_that_the_doctor_likes(
    call: Callable[..., Any], published: Any, tmp_path: Path
) -> None:
    output = tmp_path / "ours"
    done = call(*published.flags(output), "--offline")
    assert done.code == 0, done.err
    assert f"maskedit doctor --smartedit {output}" in done.out.splitlines()[-1]
    assert "264 rows and 35 new ones" in done.out

    asked = call("doctor", "--smartedit", output)
    assert asked.code == 0, asked.err
    looks = ["files", "sizes", "tokens", "language model", "answer"]
    assert [line.partition(":")[0] for line in asked.out.splitlines()] == looks
    assert "5.7 is chance" in asked.out

    again = call(*published.flags(output), "--offline")
    assert (again.code, "is there already" in again.err) == (2, True)

    # Another LLaVA in its place is told in one line, before anything is loaded.
    weights = output / "mllm" / "model.safetensors"
    save_file({name: each + torch.rand(each.shape) for name, each in load_file(weights).items()}, weights)
    wrong = call("doctor", "--smartedit", output, "--no-load", "--json")
    assert wrong.code == 2
    assert [finding["fits"] for finding in json.loads(wrong.out)] == [True, True, True, False]
    assert "is not the one SmartEdit learned on" in wrong.err
    assert len(wrong.err.splitlines()) == 1


def test_a_wrong_merge_is_not_converted(call: Callable[..., Any], published: Any, tmp_path: Path) -> None:
    llava = Path(shutil.copytree(published.llava, tmp_path / "llava"))
    for path in llava.glob("*.bin"):
        torch.save({name: 1.1 * each for name, each in torch.load(path).items()}, path)
    flags = [llava if each == published.llava else each for each in published.flags(tmp_path / "ours")]
    done = call(*flags, "--offline")
    assert done.code == 2
    assert "this LLaVA is not the one that SmartEdit learned on" in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "ours").exists()


def test_folders_that_are_not_published_weights(call: Callable[..., Any], published: Any, tmp_path: Path) -> None:
    flags = [tmp_path if each == published.release else each for each in published.flags(tmp_path / "ours")]
    done = call(*flags, "--offline")
    assert done.code == 2
    assert "expected a folder LLM-N" in done.err
