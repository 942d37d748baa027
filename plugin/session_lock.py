"""One run at a time: a run holds its session while it trains, so that nobody else changes what it reads.

The lock is the system's, so it ends with the process, however that ends. Where the system or the disk has no such
locks, nobody is kept out.
"""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..editors import SessionError

try:
    import fcntl
except ImportError:  # There are no such locks on Windows.
    fcntl = None

FILE = "in_use"
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
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        path.unlink(missing_ok=True)
        handle.close()


def _owner(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        content = json.loads(path.read_text())
        return f" (process {content['process']} on {content['host']})"
    return ""
