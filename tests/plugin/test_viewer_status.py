"""What is said in the viewer is said on the console as well, and stays readable."""

import pytest

from maskedit.plugin.viewer_status import MESSAGES, ViewerStatus


def test_everything_said_is_on_the_console_too(capsys: pytest.CaptureFixture) -> None:
    status = ViewerStatus()
    status.report("edit 1/10, ETA 1 min")
    status.say("undo: 2 edits taken back")
    status.fail("no such {thing}")
    out = capsys.readouterr().out
    assert all(part in out for part in ("edit 1/10", "undo: 2 edits", "no such {thing}"))
    shown = status.text.replace("\\", "")
    assert all(part in shown for part in ("edit 1/10", "undo: 2 edits", "**Not done:** no such {thing}"))
    assert "\\{thing\\}" in status.text


def test_old_messages_make_room() -> None:
    status = ViewerStatus()
    for number in range(MESSAGES + 2):
        status.say(f"message {number}.")
    assert "message 1" not in status.text
    assert f"message {MESSAGES + 1}" in status.text


def test_markup_of_the_console_is_taken_for_text(capsys: pytest.CaptureFixture) -> None:
    ViewerStatus().fail("expected [/b], got [red]")
    assert "expected [/b], got [red]" in capsys.readouterr().out


def test_progress_comes_first() -> None:
    status = ViewerStatus()
    status.say("done")
    status.show_progress("Edit step 3 of 20")
    assert status.text.startswith("**Edit step 3 of 20**")
