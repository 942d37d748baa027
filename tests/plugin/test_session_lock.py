"""A session is held by one process at a time, and free again however that process ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from maskedit.editors import SessionError
from maskedit.plugin.session_lock import FILE, hold_session, release_session

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
        other.kill()
        other.wait()
    hold_session(tmp_path)
    release_session(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_a_process_may_ask_again_for_what_it_holds(tmp_path: Path) -> None:
    for _ in range(2):
        hold_session(tmp_path)
    release_session(tmp_path)
    release_session(tmp_path)


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="writable"):
        hold_session(tmp_path / "gone")
