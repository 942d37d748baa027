"""Editor options as flags: what several editors have is flat (`--steps`), the rest has a prefix (`--foi.boost`).

The flags are made from the options of all editors, so that no list of them is kept by hand: two editors share a flag if
name, type and default agree. A value out of range becomes an error that names the flag, and so does one for another
editor than the chosen one.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any

import tyro

from ..editors import EDITORS, EditorConfig, EditorName, LanguageConfig, name_of
from .flags import FlagSpec, OptionError, as_flag, build, default_of, docs_of, flag_name, flags_class

SHARED = "shared"
"""Where flags without a prefix stand among the flags."""


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


def _collect() -> tuple[_Option, ...]:
    """The options of all editors, each once; where the words about a shared one differ, all are said."""
    found: dict[Any, list[tuple[EditorName, Field[Any], str]]] = {}
    for editor, entry in EDITORS.items():
        for declared in fields(entry.config):
            key = (declared.name, declared.type, default_of(declared))
            found.setdefault(key, []).append((editor, declared, docs_of(entry.config)[declared.name]))
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


@cache
def editor_flags(**renamed: str) -> type[Any]:
    """All flags as the parser reads them; `join_options` makes an editor's options of them.

    Args:
        renamed: other names for flags without a prefix, where a command has flags of the same name.
    """
    flags: list[FlagSpec] = []
    abouts = {SHARED: "Options of several editors; of all, where none is named."}
    for group in (SHARED, *EDITORS):
        own = [_own_flag(o, renamed) for o in OPTIONS if o.path[0] == group and len(o.path) > 1]
        if own:
            kind = flags_class(f"{group.capitalize()}Flags", abouts.get(group, f"Options of {group} alone."), own)
            shown: Any = tyro.conf.OmitArgPrefixes[kind] if group == SHARED else kind
            flags.append((group, shown, field(default_factory=kind)))
    flags += [as_flag(option.declared, option.help) for option in OPTIONS if len(option.path) == 1]
    return flags_class("EditorFlags", "Options of the editors.", flags, renamed=renamed)


def _own_flag(option: _Option, renamed: Mapping[str, str]) -> FlagSpec:
    name, kind, default = as_flag(option.declared, option.help)
    if option.path[0] == SHARED and name in renamed:
        kind = Annotated[kind, tyro.conf.arg(name=renamed[name])]
    return name, kind, default


EditorFlags = editor_flags()
"""The flags where none is renamed."""


def join_options(editor: EditorName, flags: Any, *, base: Any = None) -> EditorConfig:
    """The options of the chosen editor.

    Args:
        editor: the one that was chosen.
        flags: what `editor_flags` made, filled in.
        base: another one, whose values are no choice of the user either: a preset's.

    Raises:
        OptionError: if a value is out of range, two exclude each other, or one is not this editor's and not left alone.
    """
    plain, renamed = type(flags)(), type(flags).renamed
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
                f"{editor} has no {flag_name(_shown(stray, renamed))}: leave it out, or pass --editor "
                f"{' or '.join(option.editors)}"
            )
    own = {o.declared.name: (_at(flags, o.path), _shown(o.path, renamed)) for o in OPTIONS if editor in o.editors}
    config = build(EDITORS[editor].config, own)
    _refuse_unread(config, plain if base is None else base)
    return config


def _refuse_unread(config: EditorConfig, usual: Any) -> None:
    """Refuse flags about language that the chosen provider does not read."""
    language: LanguageConfig | None = getattr(config, "language", None)
    if language is None:
        return
    for name, readers in language.unread().items():
        if getattr(language, name) != getattr(usual.language, name):
            raise OptionError(
                f"the language provider {language.provider} reads no {flag_name(('language', name))}: leave it out, or "
                f"pass --language.provider {' or '.join(readers)}"
            )


def split_options(config: EditorConfig, kind: type[Any] = EditorFlags) -> Any:
    """Flags from an editor's options; those of other editors are left alone.

    Args:
        config: the options.
        kind: what `editor_flags` made.
    """
    editor = name_of(config)
    flags = kind()
    for option in OPTIONS:
        if editor in option.editors:
            flags = _with_value(flags, option.path, getattr(config, option.declared.name))
    return flags


def _at(flags: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        flags = getattr(flags, name)
    return flags


def _shown(path: tuple[str, ...], renamed: Mapping[str, str]) -> tuple[str, ...]:
    """A path as its flag is written."""
    return (renamed.get(path[1], path[1]),) if path[0] == SHARED else path


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
