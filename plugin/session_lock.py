"""One run at a time: a run holds its session while it trains, so that nobody else changes what it reads.

The lock is the system's, so it ends with the process, however that ends. Its file stays: were it removed, one process
could hold the file that is gone and another the one that was made in its place. Where the system or the disk has no
such locks, nobody is kept out.
"""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..editors import SessionError

try:
    import fcntl
except ImportError:  # There are no such locks on Windows.
    fcntl = None

FILE = "in_use"
TRIES, PAUSE = 5, 0.1
"""How often a lock is asked for, and the seconds in between: looking at it takes a moment."""
# A lock of this kind ends when any handle of its file is closed, so a process has one handle for each session.
_held: dict[Path, IO[str]] = {}


def hold_session(root: Path) -> None:
    """Keep other processes out of a session until this one ends or lets go of it.

    Args:
        root: the session folder.

    Raises:
        SessionError: if another process holds it.
    """
    path = root.resolve() / FILE
    if fcntl is None or path in _held:
        return
    try:
        handle = path.open("a+")
    except OSError as error:
        raise SessionError(f"cannot write to {root} ({error}): make the folder of the run writable") from error
    try:
        _lock(handle)
    except (BlockingIOError, PermissionError) as error:
        owner = _owner(path)
        handle.close()
        raise SessionError(
            f"the session at {root} is in use by a run that is going on{owner}: stop it first"
        ) from error
    except OSError:
        # The disk knows no locks.
        handle.close()
        return
    _held[path] = handle
    with suppress(OSError):
        handle.truncate(0)
        handle.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        handle.flush()


def release_session(root: Path) -> None:
    """Let others at a session that this process holds."""
    path = root.resolve() / FILE
    handle = _held.pop(path, None)
    if handle is not None:
        with suppress(OSError):
            handle.truncate(0)
        handle.close()


def is_held_elsewhere(root: Path) -> bool:
    """Whether another process holds a session; looking leaves no trace and keeps nobody out.

    Args:
        root: the session folder; reading it is enough.
    """
    path = root.resolve() / FILE
    # Closing another handle of a file gives up the lock on it, so what is held here is not opened again.
    if fcntl is None or path in _held:
        return False
    try:
        with path.open() as handle:
            fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return path.is_file() and os.access(path, os.R_OK)
    except OSError:
        return False
    return False


def _lock(handle: IO[str]) -> None:
    assert fcntl is not None
    for left in reversed(range(TRIES)):
        try:
            return fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if not left:
                raise
            time.sleep(PAUSE)


def _owner(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        content = json.loads(path.read_text())
        return f" (process {content['process']} on {content['host']})"
    return ""
