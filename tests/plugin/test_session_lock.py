"""A session is held by one process at a time, and free again however that process ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from maskedit.editors import SessionError
from maskedit.plugin.session_lock import FILE, hold_session, is_held_elsewhere, release_session

HOLD = """
import sys, time
from pathlib import Path
from maskedit.plugin.session_lock import hold_session
hold_session(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_another_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SessionError, match=rf"in use by a run .*process {other.pid} on .*stop it first"):
            hold_session(tmp_path)
        assert is_held_elsewhere(tmp_path)
        other.kill()
        other.wait()
    assert not is_held_elsewhere(tmp_path)
    hold_session(tmp_path)
    release_session(tmp_path)


def test_the_file_of_the_lock_stays_the_same_one(tmp_path: Path) -> None:
    # A process that has opened it and not yet locked it must not be left with a file that is gone.
    hold_session(tmp_path)
    first = (tmp_path / FILE).stat().st_ino
    release_session(tmp_path)
    hold_session(tmp_path)
    assert (tmp_path / FILE).stat().st_ino == first
    assert not is_held_elsewhere(tmp_path)
    release_session(tmp_path)


def test_looking_at_a_lock_leaves_no_trace(tmp_path: Path) -> None:
    assert not is_held_elsewhere(tmp_path)
    assert list(tmp_path.iterdir()) == []


LOOK = """
import fcntl, sys, time
with open(sys.argv[1]) as handle:
    fcntl.lockf(handle, fcntl.LOCK_SH)
    print("looks", flush=True)
    time.sleep(0.15)
"""


def test_who_looks_does_not_keep_a_run_from_beginning(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with subprocess.Popen(
        [sys.executable, "-c", LOOK, str(tmp_path / FILE)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "looks\n"
        hold_session(tmp_path)
    release_session(tmp_path)


def test_a_process_may_ask_again_for_what_it_holds(tmp_path: Path) -> None:
    for _ in range(2):
        hold_session(tmp_path)
    release_session(tmp_path)
    release_session(tmp_path)


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="writable"):
        hold_session(tmp_path / "gone")
