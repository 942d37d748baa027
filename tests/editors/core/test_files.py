"""Files that are whole or not there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from maskedit.editors import InputError, SessionError
from maskedit.editors.core.files import one_line_on_failure, read_json, write_atomic, write_json, write_tensors


def test_json_survives_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "record.json"
    write_json(path, {"words": ["größer", None, 1.5], "place": Path("x")}, hint="-")
    assert read_json(path, hint="-") == {"words": ["größer", None, 1.5], "place": "x"}
    assert [each.name for each in path.parent.iterdir()] == ["record.json"]


def test_a_write_that_breaks_off_leaves_the_old_file_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, 1, hint="-")

    def break_off(file: object) -> None:
        file.write(b"half of it")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError) as refused:
        write_atomic(path, break_off, hint="choose another --run", error=InputError)
    assert str(refused.value) == f"cannot write {path} (No space left on device): choose another --run"
    assert path.read_text() == "1"
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, "old", hint="-")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom maskedit.editors.core.files import write_atomic\n"
        "def write(file):\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(Path(sys.argv[1]), write, hint='-')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert read_json(path, hint="-") == "old"


def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "damaged.json").write_text('{"a": ')
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xff")
    for name in ("missing.json", "damaged.json", "bytes.json"):
        with pytest.raises(SessionError, match=rf"cannot read .*{name}.*: begin anew") as refused:
            read_json(tmp_path / name, hint="begin anew")
        assert "\n" not in str(refused.value)


def test_only_failures_of_the_disk_are_turned() -> None:
    with pytest.raises(KeyError), one_line_on_failure(Path("x"), hint="-"):
        raise KeyError("x")
    with (
        pytest.raises(SessionError, match=r"cannot write x \(gone\): look"),
        one_line_on_failure(Path("x"), hint="look"),
    ):
        raise OSError("gone")


def test_tensors_of_any_layout_survive_with_their_text(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "values.safetensors"
    values = torch.arange(6.0).reshape(2, 3)
    write_tensors(path, {"turned": values.T, "plain": values}, hint="-", metadata={"step": "7"})
    with safe_open(path, framework="pt") as stored:
        assert stored.metadata() == {"step": "7"}
        assert torch.equal(stored.get_tensor("turned"), values.T)
    assert [each.name for each in path.parent.iterdir()] == ["values.safetensors"]


def test_tensors_that_cannot_be_written_end_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder is wanted")
    with pytest.raises(SessionError, match="choose another folder"):
        write_tensors(tmp_path / "taken" / "values", {"x": torch.zeros(1)}, hint="choose another folder")
