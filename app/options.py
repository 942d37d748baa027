"""Editor options as flags: what several editors have is flat (`--steps`), the rest has a prefix (`--foi.boost`).

The flags are made from the options of all editors, so that no list of them is kept by hand: two editors share a flag if
name, type and default agree. A value out of range becomes an error that names the flag, and so does one for another
editor than the chosen one.
"""

import ast
import inspect
import re
import textwrap
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

import tyro

from ..editors import EDITORS, EditorConfig, EditorName, MaskeditError, name_of

SHARED = "shared"
"""Where flags without a prefix stand among the flags."""


class OptionError(MaskeditError):
    """The value of a flag is out of range, or the chosen editor has no such flag."""


@dataclass(frozen=True, kw_only=True)
class _Option:
    """An option of one or several editors."""

    declared: "Field[Any]"
    help: str
    editors: tuple[EditorName, ...]

    @property
    def path(self) -> tuple[str, ...]:
        """Where its value, or its own flags, stand among the flags."""
        name = self.declared.name
        if len(self.editors) == 1:
            return (self.editors[0], name)
        return (name,) if is_dataclass(self.declared.type) else (SHARED, name)


def _default_of(declared: "Field[Any]") -> Any:
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


@cache
def _docs_of(config: type[Any]) -> dict[str, str]:
    """The docstring under each field, inherited ones too; Python itself does not keep them."""
    found: dict[str, str] = {}
    for owner in reversed([c for c in config.__mro__ if is_dataclass(c)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for line, following in pairwise(lines):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                match following:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        found[line.target.id] = " ".join(text.split())
                    case _:
                        pass
    return found


def _collect() -> tuple[_Option, ...]:
    """The options of all editors, each once; where the words about a shared one differ, all are said."""
    found: dict[Any, list[tuple[EditorName, Field[Any], str]]] = {}
    for editor, entry in EDITORS.items():
        for declared in fields(entry.config):
            key = (declared.name, declared.type, _default_of(declared))
            found.setdefault(key, []).append((editor, declared, _docs_of(entry.config)[declared.name]))
    options: list[_Option] = []
    for uses in found.values():
        words: dict[str, list[EditorName]] = {}
        for editor, _, text in uses:
            words.setdefault(text, []).append(editor)
        if len(words) > 1:
            help_text = " ".join(f"{', '.join(names)}: {text}" for text, names in words.items())
        else:
            some = "" if len(uses) in (1, len(EDITORS)) else f" [{', '.join(editor for editor, _, _ in uses)}]"
            help_text = f"{next(iter(words))}{some}"
        options.append(_Option(declared=uses[0][1], help=help_text, editors=tuple(editor for editor, _, _ in uses)))
    return tuple(options)


OPTIONS = _collect()
"""Every option of every editor."""


def _as_flag(declared: "Field[Any]", help_text: str) -> tuple[str, Any, Any]:
    kind: Any = declared.type
    if is_dataclass(kind):
        kind = _stand_in(kind, help_text)
        return declared.name, kind, field(default_factory=kind)
    return declared.name, Annotated[kind, tyro.conf.arg(help=help_text)], field(default=_default_of(declared))


def _flags_class(name: str, about: str, flags: list[tuple[str, Any, Any]]) -> type[Any]:
    return make_dataclass(name, flags, frozen=True, kw_only=True, namespace={"__doc__": about, "__module__": __name__})


@cache
def _stand_in(config: type[Any], about: str) -> type[Any]:
    """The options of a part of an editor, unchecked: the check is made where the flag's name is known."""
    docs = _docs_of(config)
    return _flags_class(f"{config.__name__}Flags", about, [_as_flag(f, docs[f.name]) for f in fields(config)])


def _all_flags() -> type[Any]:
    flags: list[tuple[str, Any, Any]] = []
    abouts = {SHARED: "Options of several editors; of all, where none is named."}
    for group in (SHARED, *EDITORS):
        own = [_as_flag(o.declared, o.help) for o in OPTIONS if o.path[0] == group and len(o.path) > 1]
        if own:
            kind = _flags_class(f"{group.capitalize()}Flags", abouts.get(group, f"Options of {group} alone."), own)
            shown: Any = tyro.conf.OmitArgPrefixes[kind] if group == SHARED else kind
            flags.append((group, shown, field(default_factory=kind)))
    flags += [_as_flag(option.declared, option.help) for option in OPTIONS if len(option.path) == 1]
    return _flags_class("EditorFlags", "Options of the editors.", flags)


EditorFlags = _all_flags()
"""All flags as the parser reads them; `join_options` makes an editor's options of them."""


def join_options(editor: EditorName, flags: Any, *, base: Any = None) -> EditorConfig:
    """The options of the chosen editor.

    Args:
        editor: the one that was chosen.
        flags: an `EditorFlags`.
        base: another one, whose values are no choice of the user either: a preset's.

    Raises:
        OptionError: if a value is out of range, two exclude each other, or one is not this editor's and not left alone.
    """
    plain = EditorFlags()
    for option in OPTIONS:
        if editor in option.editors:
            continue
        value = _at(flags, option.path)
        for usual in (plain, plain if base is None else base):
            stray = _first_difference(value, _at(usual, option.path), option.path)
            if stray is None:
                break
        else:
            raise OptionError(
                f"{editor} has no {_flag(stray)}: leave it out, or pass --editor {' or '.join(option.editors)}"
            )
    own = {o.declared.name: (_at(flags, o.path), o.path) for o in OPTIONS if editor in o.editors}
    return _build(EDITORS[editor].config, own)


def split_options(config: EditorConfig) -> Any:
    """Flags from an editor's options, an `EditorFlags`; those of other editors are left alone."""
    editor = name_of(config)
    flags = EditorFlags()
    for option in OPTIONS:
        if editor in option.editors:
            flags = _with_value(flags, option.path, getattr(config, option.declared.name))
    return flags


def _at(flags: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        flags = getattr(flags, name)
    return flags


def _flag(path: tuple[str, ...]) -> str:
    return f"--{'.'.join(name for name in path if name != SHARED).replace('_', '-')}"


def _first_difference(value: Any, usual: Any, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Path of the first flag whose value is not the usual one."""
    if not is_dataclass(value):
        return None if value == usual else path
    below = (_first_difference(getattr(value, f.name), getattr(usual, f.name), (*path, f.name)) for f in fields(value))
    return next((found for found in below if found is not None), None)


def _with_value(flags: Any, path: tuple[str, ...], value: Any) -> Any:
    """The flags with another value at a path; it may be the options of a part, which become flags too."""
    if not path:
        if not is_dataclass(value):
            return value
        for declared in fields(value):
            flags = _with_value(flags, (declared.name,), getattr(value, declared.name))
        return flags
    return replace(flags, **{path[0]: _with_value(getattr(flags, path[0]), path[1:], value)})


def _build(config: type[Any], values: dict[str, tuple[Any, tuple[str, ...]]]) -> Any:
    """Options from values with the paths of their flags, parts first."""
    ready: dict[str, Any] = {}
    for declared in fields(config):
        value, path = values[declared.name]
        if is_dataclass(value):
            part: Any = declared.type
            value = _build(part, {f.name: (getattr(value, f.name), (*path, f.name)) for f in fields(value)})
        ready[declared.name] = value
    try:
        return config(**ready)
    except ValueError as error:
        raise OptionError(_naming_flags(str(error), {name: path for name, (_, path) in values.items()})) from error


def _naming_flags(message: str, paths: dict[str, tuple[str, ...]]) -> str:
    """A complaint with flags for names: for the word it opens with, and for all that can be no words of English."""

    def name_flag(found: re.Match[str]) -> str:
        word = found[0]
        return _flag(paths[word]) if word in paths and (found.start() == 0 or "_" in word) else word

    return re.sub(r"\w+", name_flag, message)
