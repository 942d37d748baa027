"""The editor of a run is made once and again when the guidance changes, on the same weights."""

from pathlib import Path
from typing import Any

import pytest

from maskedit.editors import Instruction, IP2PConfig
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.editor_cache import EditorCache
from maskedit.plugin.slot import Settings

RED = (Instruction(text="make the square red"),)


@pytest.fixture
def cache(ip2p_folder: Path) -> EditorCache:
    editor = IP2PConfig(size=16, steps=2, sampler="ddim")
    return EditorCache(SceneEditorConfig(model=str(ip2p_folder), device="cpu", name="ip2p", ip2p=editor))


def test_the_editor_is_made_at_its_first_use_and_kept(cache: EditorCache) -> None:
    assert cache.editor is cache.tokenizer is None
    first = cache.get(Settings(instructions=RED))
    assert cache.get(Settings(instructions=RED)) is first is cache.editor
    assert cache.tokenizer is not None


def test_other_guidance_makes_another_editor_on_the_same_weights(cache: EditorCache) -> None:
    first: Any = cache.get(Settings(instructions=RED))
    other: Any = cache.get(Settings(instructions=RED, guidance_scale=3.0))
    assert other.settings.guidance_scale == 3.0
    assert other.backbone is first.backbone


def test_a_given_editor_stays_whatever_the_settings_say(cache: EditorCache, paint: Any) -> None:
    editor = paint()
    cache.use(editor)
    assert cache.get(Settings(instructions=RED, guidance_scale=3.0)) is editor
