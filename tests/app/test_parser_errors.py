"""Boxes of the parser become one line."""

import pytest

from maskedit.app.parser_errors import in_one_line

CHOICE = """
╭─ Invalid choice ──────────────────────────────╮
│ invalid choice 'x' for argument '--editor'.   │
│ Expected one of ('foi', 'ip2p').              │
│ ───────────────────────────────────────────── │
│ For full helptext, run maskedit edit --help   │
╰───────────────────────────────────────────────╯
"""
MISSPELT = """
\x1b[31m╭─\x1b[0m Unrecognized options ───────────────────────╮
│ Unrecognized options: --stepz                 │
│ ───────────────────────────────────────────── │
│ Perhaps you meant:                            │
│     --steps {None}|INT                        │
│         Steps, see --help for --size.         │
│ ───────────────────────────────────────────── │
│ For full helptext, run maskedit --help        │
╰───────────────────────────────────────────────╯
"""
VALUE = """
╭─ Value error ─────────────────────────────────╮
│ Error parsing --seed: invalid literal for     │
│ int(): 'x'.                                   │
│                                               │
│ Got errors:                                   │
│ - <class 'int'>: invalid literal              │
│ ───────────────────────────────────────────── │
│ Argument helptext:                            │
│     --seed INT                                │
╰───────────────────────────────────────────────╯
"""
PLAIN = """ Unrecognized options
 -----------------------------------
  Unrecognized options: frob
  -----------------------------------
  Available subcommands: edit, mask
  -----------------------------------
  For full helptext, run x --help

"""


@pytest.mark.parametrize(
    ("box", "line"),
    [
        (CHOICE, "invalid choice 'x' for argument '--editor'. Expected one of ('foi', 'ip2p')"),
        (MISSPELT, "unrecognized options: --stepz, did you mean --steps or --size.?"),
        (VALUE, "--seed: invalid literal for int(): 'x'"),
        (PLAIN, "unrecognized options: frob, available subcommands: edit, mask"),
        ("plain words", "plain words"),
        ("", "the arguments make no sense"),
    ],
)
def test_a_box_becomes_a_line(box: str, line: str) -> None:
    assert in_one_line(box, program="maskedit edit") == f"{line} (see maskedit edit --help)"
