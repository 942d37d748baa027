"""The command line `maskedit`: finds the command, runs it, and turns expected errors into one line.

Only the module of the chosen command is imported, so that `maskedit --help` answers at once.
"""

import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any, Union

import tyro

from .parser_errors import in_one_line

TRACEBACK_VARIABLE = "MASKEDIT_TRACEBACK"
_REFUSED = 2
"""How the parser ends the program where arguments make no sense."""
_ABOUT = (
    "Edit pictures, clips and 3D scenes by instruction, and keep what was not asked to change. Scenes are edited by "
    f"`ns-train maskedit`. Errors are one line; --traceback or {TRACEBACK_VARIABLE}=1 shows where they come from."
)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A command: where it is, and its line in the list."""

    module: str
    name: str
    about: str
    parts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Its stages as commands of their own, by the word that follows the command's: names of their classes, behind that
    of their module where it is another one."""


COMMANDS = {
    "edit": _Entry(module="edit", name="EditCommand", about="Edit pictures by instruction."),
    "mask": _Entry(module="edit", name="MaskCommand", about="Show where instructions would act, without editing."),
    "video": _Entry(
        module="video",
        name="VideoCommand",
        about="Edit clips by instruction.",
        parts={"fit": "FitCommand", "edit": "EditRunCommand", "render": "RenderCommand"},
    ),
    "brush": _Entry(
        module="brush",
        name="BrushCommand",
        about="Learn an instruction from pairs of pictures before and after an edit.",
        parts={"learn": "BrushLearnCommand", "show": "BrushShowCommand"},
    ),
    "session": _Entry(
        module="session",
        name="SessionCommand",
        about="Look at the edits of a scene, take them back, or write them to files.",
        parts={"show": "SessionShowCommand", "undo": "SessionUndoCommand", "export": "SessionExportCommand"},
    ),
    "demo": _Entry(module="demo", name="DemoCommand", about="Edit pictures, a scene and a clip of blocks; a report."),
    "bench": _Entry(module="bench", name="BenchCommand", about="Measure editors against exact truth, or their speed."),
    "train": _Entry(
        module="train",
        name="TrainCommand",
        about="Train the small model set that is part of maskedit, or SmartEdit.",
        parts={"smartedit": "train_smartedit.SmartEditTrainCommand"},
    ),
    "convert": _Entry(
        module="convert", name="ConvertCommand", about="Turn published SmartEdit weights into a checkpoint."
    ),
    "doctor": _Entry(module="doctor", name="DoctorCommand", about="Tell what is installed, and what is missing."),
}


@dataclass(frozen=True)
class _Unchosen:
    """Stands for a command that is not asked for, and whose module is not imported."""


def parse(argv: Sequence[str]) -> Any:
    """The command that some arguments ask for, ready to run.

    Raises:
        SystemExit: if they ask for help or make no sense.
        MaskeditError: if a value is out of range.
    """
    chosen, second = (*argv[:2], "", "")[:2]
    entry = COMMANDS.get(chosen)
    if entry is not None and second in entry.parts:
        kind, options = _load(entry.module, entry.parts[second], argv)
        return tyro.cli(kind, prog=f"maskedit {chosen} {second}", args=list(argv[2:]), **options)
    kinds: list[Any] = []
    for name, entry in COMMANDS.items():
        kind: Any = _Unchosen
        options: dict[str, Any] = {"description": entry.about}
        if name == chosen:
            kind, options = _load(entry.module, entry.name, argv)
        kinds.append(Annotated[kind, tyro.conf.subcommand(name, **options)])
    # A tuple of types that is only known now; there is no other way to write the union.
    union: Any = Union[tuple(kinds)]  # noqa: UP007
    return tyro.cli(union, prog="maskedit", description=_ABOUT, args=list(argv) or ["--help"])


def _load(module_name: str, name: str, argv: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The class of a command and, if a preset or a stage is asked for, where its flags start from."""
    elsewhere, _, name = name.rpartition(".")
    module = import_module(f".{elsewhere or module_name}", __package__)
    kind, preset, stage = getattr(module, name), _value_of("--preset", argv), _value_of("--stage", argv)
    if preset is not None and hasattr(kind, "from_preset"):
        return kind, {"default": kind.from_preset(preset)}
    if stage is not None and hasattr(kind, "from_stage"):
        return kind, {"default": kind.from_stage(stage)}
    return kind, {}


def _value_of(flag: str, argv: Sequence[str]) -> str | None:
    for place, word in enumerate(argv):
        if word == flag and place + 1 < len(argv):
            return argv[place + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: runs a command and ends the program with 0, with 2 on an expected error, with 130 on Ctrl-C."""
    given = list(sys.argv[1:] if argv is None else argv)
    shows_traceback = "--traceback" in given or os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")
    arguments = [word for word in given if word != "--traceback"]
    try:
        _parse_plainly(arguments).run()
    except KeyboardInterrupt:
        print("maskedit: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has closed it, as `maskedit edit --help | head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if shows_traceback or not _is_expected(error):
            raise
        print(f"maskedit: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _parse_plainly(arguments: Sequence[str]) -> Any:
    """`parse`, with what the parser complains about in one line."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse(arguments)
    except SystemExit as end:
        if end.code == _REFUSED:
            parts = COMMANDS[arguments[0]].parts if arguments[0] in COMMANDS else {}
            known = [arguments[0]] if arguments[0] in COMMANDS else []
            known += [word for word in arguments[1:2] if word in parts]
            box, program = said.getvalue(), " ".join(["maskedit", *known])
            said = io.StringIO(f"maskedit: error: {in_one_line(box, program=program)}\n")
        raise
    finally:
        sys.stderr.write(said.getvalue())


def _is_expected(error: Exception) -> bool:
    # Imported only now: the editors bring torch, which would take seconds from every call for help.
    from ..editors import MaskeditError

    return isinstance(error, MaskeditError)
