"""Editors of a run are made once, and again when the guidance changes, on the same weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskedit.editors import InputError, Instruction, IP2PConfig, ModelError
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.editor_cache import EditorCache, switch_editor
from maskedit.plugin.slot import Settings

RED = (Instruction(text="make the square red"),)


@pytest.fixture
def cache(ip2p_folder: Path) -> EditorCache:
    editor = IP2PConfig(size=16, steps=2, sampler="ddim")
    return EditorCache(SceneEditorConfig(model=str(ip2p_folder), device="cpu", name="ip2p", ip2p=editor))


def test_the_editor_is_made_at_its_first_use_and_kept(cache: EditorCache) -> None:
    asked = Settings(instructions=RED)
    assert (cache.peek(asked), cache.tokenizer_for(asked), cache.has_editor) == (None, None, False)
    first = cache.get(asked)
    assert cache.get(asked) is first is cache.peek(Settings(instructions=RED, guidance_scale=3.0))
    assert cache.has_editor
    assert cache.tokenizer_for(asked) is not None


def test_other_guidance_makes_another_editor_on_the_same_weights(cache: EditorCache) -> None:
    first: Any = cache.get(Settings(instructions=RED))
    other: Any = cache.get(Settings(instructions=RED, guidance_scale=3.0))
    assert other.settings.guidance_scale == 3.0
    assert other.backbone is first.backbone


def test_editors_of_one_kind_share_their_weights(cache: EditorCache) -> None:
    first: Any = cache.get(Settings(instructions=RED))
    other: Any = cache.get(Settings(instructions=RED, editor="foi"))
    assert (type(first).__name__, type(other).__name__) == ("IP2P", "FoI")
    assert other.backbone is first.backbone
    assert cache.get(Settings(instructions=RED)) is first
    assert cache.get(Settings(instructions=RED, editor="foi")) is other


def test_editors_of_another_kind_take_weights_of_their_own(ip2p_folder: Path) -> None:
    config = SceneEditorConfig(name="ip2p", model="embedded", device="cpu")
    cache = EditorCache(config)
    inverting: Any = cache.get(Settings(instructions=RED, editor="diffedit"))
    assert inverting.backbone.unet.config.in_channels == 4
    assert cache.tokenizer_for(Settings(instructions=RED)) is None
    assert switch_editor(replace(config, model=str(ip2p_folder)), "foi").model == str(ip2p_folder)
    assert switch_editor(replace(config, model=str(ip2p_folder)), "diffedit").model is None


def test_a_checkpoint_that_is_missing_is_named_and_nothing_is_lost(cache: EditorCache) -> None:
    first = cache.get(Settings(instructions=RED))
    cache.config = replace(cache.config, offline=True, model_dir=Path("nowhere"))
    with pytest.raises(ModelError, match="stable-diffusion"):
        cache.get(Settings(instructions=RED, editor="diffedit"))
    assert cache.get(Settings(instructions=RED)) is first


def test_guidance_that_an_editor_does_not_know_is_refused(cache: EditorCache) -> None:
    with pytest.raises(InputError, match="no image guidance"):
        cache.config_for(Settings(instructions=RED, editor="diffedit", image_guidance_scale=1.5))


def test_a_given_editor_stays_whatever_the_settings_say(cache: EditorCache, paint: Any) -> None:
    editor = paint()
    cache.use(editor)
    assert cache.get(Settings(instructions=RED, guidance_scale=3.0)) is editor
