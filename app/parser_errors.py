"""The parser's complaints in one line: tyro draws a box of several lines, with the help of every flag it thinks of."""

import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MOST_FLAGS = 3
"""Flags that are proposed where one was misspelt."""


def in_one_line(box: str, *, program: str) -> str:
    """What a box says, in one line.

    Args:
        box: what the parser wrote.
        program: the program, and the command if there is one, whose help has the rest.
    """
    parts = _parts_of(_COLOURS.sub("", box))
    said = re.sub(r"^Error parsing (\S+): ", r"\1: ", parts[0].split(" Got errors:")[0]).rstrip(".")
    opening = re.match(r"[A-Z][a-z]", said)
    said = said[0].lower() + said[1:] if opening else said
    for part in parts[1:]:
        if part.startswith("Perhaps you meant"):
            flags = [flag for flag in dict.fromkeys(re.findall(r"(?<!\S)--[\w.-]+", part)) if flag != "--help"]
            said += f", did you mean {' or '.join(flags[:_MOST_FLAGS])}?" if flags else ""
        elif part.startswith("Available subcommands:"):
            said += f", {part[0].lower()}{part[1:]}"
    return f"{said} (see {program} --help)"


def _parts_of(box: str) -> list[str]:
    """What stands between the rules of a box, each part in one line; without frame and title."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        if line.startswith(("╭", "╰")):
            continue
        content = line.strip().strip("│").strip()
        if content and not content.strip("─-"):
            parts.append([])
        else:
            parts[-1] += content.split()
    found = [" ".join(words) for words in parts if words]
    # Where the terminal knows no lines, the title stands above the first rule instead of within the frame.
    return (found if "╭" in box or len(found) < 2 else found[1:]) or ["the arguments make no sense"]
