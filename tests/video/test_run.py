"""The folder of a run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maskedit.editors import InputError, SessionError
from maskedit.video.run import RunFolder, describe_source, fingerprint, fingerprint_file


def test_fingerprints_tell_values_apart(tmp_path: Path) -> None:
    assert fingerprint("a", {"x": 1, "y": [2]}) == fingerprint("a", {"y": [2], "x": 1})
    names = {
        fingerprint("a", 1),
        fingerprint("a", 2),
        fingerprint("a", 1.5),
        fingerprint("a", None),
        fingerprint("b", 1),
    }
    assert len(names) == 5
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"x" * 100000)
    other.write_bytes(b"x" * 99999 + b"y")
    assert fingerprint_file(one) != fingerprint_file(other)


def test_values_and_finished_parts_are_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not folder.has_begun
    folder.store(source={"path": "x"}, layers=[])
    folder.finish("fit_0", "abc")
    again = RunFolder(tmp_path / "run")
    assert again.has_begun and again.value("source") == {"path": "x"} and again.holds("layers", [])
    assert again.is_done("fit_0", "abc") and not again.is_done("fit_0", "xyz") and again.mark_of("fit_1") is None
    again.begin("fit_0")
    assert RunFolder(tmp_path / "run").mark_of("fit_0") is None


def test_segments_that_are_no_more_are_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in range(3):
        folder.finish(f"fit_{number}", "abc")
        for kind in ("fit", "canonical"):
            path = folder.segment_path(kind, number, ".x")
            path.parent.mkdir(exist_ok=True)
            path.touch()
    folder.forget_segments(1)
    assert [folder.mark_of(f"fit_{number}") for number in range(3)] == ["abc", None, None]
    assert sorted(path.name for path in tmp_path.rglob("*.x")) == ["segment_000.x"] * 2


def test_two_do_not_work_in_one_folder(tmp_path: Path) -> None:
    refused = pytest.raises(SessionError, match=rf"process {os.getpid()} works in")
    with RunFolder(tmp_path).lock(), refused, RunFolder(tmp_path).lock():
        pass
    with RunFolder(tmp_path).lock():
        pass


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_stale(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom maskedit.video.run import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL and (tmp_path / "lock").read_text().strip().isdigit()
    with RunFolder(tmp_path).lock():
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_what_another_process_finished_is_seen_once_it_is_locked(tmp_path: Path) -> None:
    early = RunFolder(tmp_path)
    RunFolder(tmp_path).finish("fit", "abc")
    with early.lock():
        assert early.mark_of("fit") == "abc"


def test_folders_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    for name in ("lock", "run.json.partial"):
        (tmp_path / "begun" / name).touch()
    assert not RunFolder(tmp_path / "begun").has_begun
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match="holds other things than a run: choose another --run"):
        RunFolder(tmp_path)
    with pytest.raises(InputError, match="is a file: choose another --run"):
        RunFolder(tmp_path / "holiday.jpg")


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99, "stages": {}}', '{"format": 1}'])
def test_damaged_runs_are_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(SessionError, match=r"run\.json.*choose another --run, or remove the folder") as refused:
        RunFolder(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(SessionError, match=r"cannot write .*choose another --run"), folder.lock():
        pass


def test_sources_are_described_by_their_state(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"12345")
    about = describe_source(tmp_path / "clip.mp4")
    assert (about["name"], about["bytes"], about["files"]) == ("clip.mp4", 5, 1)
    (tmp_path / "folder").mkdir()
    for number in range(3):
        (tmp_path / "folder" / f"{number}.png").write_bytes(b"12")
    assert describe_source(tmp_path / "folder")["bytes"] == 6
    before, (first, second) = describe_source(tmp_path / "folder"), (tmp_path / "folder" / f"{n}.png" for n in (0, 1))
    os.utime(first, ns=(1, 2**60))
    touched = describe_source(tmp_path / "folder")
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    # The same pictures in another order are another clip.
    assert len({about["state"] for about in (before, touched, describe_source(tmp_path / "folder"))}) == 3
    with pytest.raises(InputError, match=r"expected a clip at .*nowhere, found no such file or folder"):
        describe_source(tmp_path / "nowhere")
