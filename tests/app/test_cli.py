"""Finding commands, help without waiting, and errors of one line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskedit.app import cli
from maskedit.app.cli import COMMANDS, main, parse


def test_help_lists_every_command_without_loading_one() -> None:
    code = (
        "import sys\n"
        "from maskedit.app.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    print('code', end.code)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-2:] == ["code 0", "False"]
    assert all(f"• {name} " in done.stdout for name in COMMANDS)


def test_no_arguments_show_the_help(call: Callable[..., Any]) -> None:
    assert "usage: maskedit" in call().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, call: Callable[..., Any]) -> None:
    done = call(name, "--help")
    assert done.code == 0
    assert f"usage: maskedit {name}" in done.out


def test_unknown_commands_and_flags_are_refused(call: Callable[..., Any]) -> None:
    done = call("frobnicate")
    assert (done.code, done.out) == (2, "")
    names = ", ".join(COMMANDS)
    expected = f"unrecognized options: frobnicate, available subcommands: {names} (see maskedit --help)"
    assert done.err == f"maskedit: error: {expected}\n"
    done = call("edit", "picture.png", "--stepz", 3)
    assert done.code == 2
    assert done.err.startswith("maskedit: error: unrecognized options: --stepz, 3, did you mean --steps")
    assert done.err.endswith("? (see maskedit edit --help)\n")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--editor", "nonsense", "invalid choice 'nonsense' for argument '--editor'"),
        (
            "--steps",
            "ten",
            "--steps: no type matching {None}|INT could be instantiated from ['ten'] (see maskedit edit",
        ),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_line(
    flag: str, value: str, said: str, call: Callable[..., Any]
) -> None:
    done = call("edit", "picture.png", flag, value)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"maskedit: error: {said}")


def test_expected_errors_are_one_line(call: Callable[..., Any], tmp_path: Path) -> None:
    done = call("edit", tmp_path / "none.png", "--instruction", "make it red")
    assert done.code == 2
    assert done.out == ""
    assert done.err == f"maskedit: error: expected a picture file, found none at {tmp_path / 'none.png'}\n"


@pytest.mark.parametrize("by_flag", [True, False])
def test_tracebacks_are_shown_on_demand(by_flag: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["edit", str(tmp_path / "none.png"), "--instruction", "make it red"]
    if by_flag:
        arguments.insert(1, "--traceback")
    else:
        monkeypatch.setenv("MASKEDIT_TRACEBACK", "1")
    with pytest.raises(Exception, match="expected a picture file"):
        main(arguments)


class _Command:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def run(self) -> None:
        raise self.error


def test_interrupting_is_quiet(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "parse", lambda argv: _Command(KeyboardInterrupt()))
    assert call("edit") == type(call("--help"))(code=130, out="", err="maskedit: stopped\n")


def test_faults_of_the_program_are_not_hidden(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "parse", lambda argv: _Command(ZeroDivisionError("a fault")))
    with pytest.raises(ZeroDivisionError):
        call("edit")


def test_presets_fill_the_flags() -> None:
    for argv in (["edit", "--preset", "paper-foi"], ["edit", "--preset=paper-foi"]):
        command = parse([*argv, "a.png", "--instruction", "x", "--steps", "9"])
        assert command.images == (Path("a.png"),)
        assert command.options.steps == 9
        assert command.options.mask_threshold == "sample"
        assert command.options.keep_outside == "paper"
