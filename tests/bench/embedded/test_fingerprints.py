"""Fingerprints: they differ where what decides a run does, and states that have none may go on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maskedit.bench.embedded.fingerprints import fingerprint_settings, fingerprint_weights, identity_for
from maskedit.bench.embedded.llava import LlavaRecipe
from maskedit.editors import OptimizeConfig, SessionError, optimize

RECIPE = LlavaRecipe()


def test_settings_count_field_by_field():
    assert fingerprint_settings(RECIPE, "a") == fingerprint_settings(LlavaRecipe(), "a")
    others = [
        (RECIPE, "b"),
        (replace(RECIPE, mirrors=0.3), "a"),
        (replace(RECIPE, optimize=replace(RECIPE.optimize, ema_decay=0.5)), "a"),
    ]
    assert len({fingerprint_settings(*each) for each in (*others, (RECIPE, "a"))}) == 4


def test_weights_count_wherever_they_lie(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_file({"weight": torch.ones(2)}, tmp_path / name / "model.safetensors")
    first = fingerprint_weights([tmp_path / "a"])
    assert first == fingerprint_weights([tmp_path / "b" / "model.safetensors"])
    save_file({"weight": torch.zeros(2)}, tmp_path / "a" / "model.safetensors")
    assert fingerprint_weights([tmp_path / "a"]) != first


@pytest.mark.parametrize("kept", ["", "one"])
def test_a_state_without_an_identity_goes_on(tmp_path: Path, kept: str):
    state = tmp_path / "x.state"
    assert identity_for(state, "one") == "one"

    def learn(identity: str, steps: int) -> int:
        value = torch.ones(3, requires_grad=True)
        config = OptimizeConfig(steps=steps, warmup_steps=1)
        return optimize({"value": value}, lambda *_: value.sum(), config, state_path=state, identity=identity)[0]

    learn(kept, 1)
    assert learn(identity_for(state, "one"), 2) == 2
    if kept:
        with pytest.raises(SessionError, match="another run"):
            learn(identity_for(state, "two"), 3)
    else:
        assert learn(identity_for(state, "two"), 3) == 3
    state.write_bytes(b"half")
    assert identity_for(state, "one") == "one"
