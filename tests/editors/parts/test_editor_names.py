"""Every editor has one entry, found by its name and by its options."""

from typing import get_args

import pytest

from maskedit.editors import EDITORS, EditorName, SmartEditConfig, name_of, options_that_count


def test_every_name_has_an_entry() -> None:
    assert set(EDITORS) == set(get_args(EditorName))
    assert len({entry.config for entry in EDITORS.values()}) == len(EDITORS)


@pytest.mark.parametrize("name", EDITORS)
def test_options_tell_their_editor(name: EditorName) -> None:
    config = EDITORS[name].config
    assert name_of(config()) == name
    assert name_of(type("Flags", (config,), {})()) == name


def test_where_a_language_model_runs_changes_no_result() -> None:
    kept = options_that_count(SmartEditConfig(steps=3))
    assert options_that_count(SmartEditConfig(steps=3, mllm_device="cpu")) == kept
    assert options_that_count(SmartEditConfig(steps=3, quantize="4bit")) != kept
    assert kept["steps"] == 3
