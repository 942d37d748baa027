"""Single runs: they are kept, taken up again and taken as they are, and redone where something differs."""

import json
from pathlib import Path

import pytest
import torch

from maskedit.bench.brush_edits import EDITS
from maskedit.bench.brush_methods import LearnConfig
from maskedit.bench.brush_runs import MethodRunner
from maskedit.bench.brush_sets import BrushSet, blocks_set
from maskedit.editors import IP2P, Backbone, BackboneConfig, EditRequest, Instruction, IP2PConfig, load_brush

CONFIG = LearnConfig(steps=2)


@pytest.fixture(scope="module")
def backbone(ip2p_folder: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))


@pytest.fixture(scope="module")
def edit() -> BrushSet:
    return blocks_set(EDITS["stripes"], train=2, test=2, split="validation", height=64)


@pytest.fixture
def runner(backbone: Backbone, tmp_path: Path) -> MethodRunner:
    return MethodRunner(backbone, CONFIG, tmp_path, sampling_steps=2)


def test_a_run_is_kept(backbone: Backbone, edit: BrushSet, runner: MethodRunner, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = runner.run("instructbrush", edit, 2, lambda *progress: seen.append(progress))
    assert seen == [(1, 2), (2, 2)]
    brush = load_brush(tmp_path / "stripes" / "instructbrush_2.safetensors")
    assert (brush.header.segments, brush.header.learned_steps, brush.header.pairs) == (5, 2, 2)
    assert first.edited.shape == edit.test.before.shape
    assert float(first.costs["seconds_step"] or 0) == pytest.approx(5 * float(first.costs["seconds_sample"] or 0))
    assert float(first.costs["brush_mib"] or 0) > 0 < float(first.costs["peak_mib"] or 1)
    again = runner.run("instructbrush", edit, 2, lambda *progress: seen.append(progress))
    assert len(seen) == 2
    assert torch.equal(again.edited, first.edited)
    assert again.costs == first.costs


def test_pictures_are_those_of_the_editor(backbone: Backbone, edit: BrushSet, runner: MethodRunner) -> None:
    request = EditRequest(image=edit.test.before, instructions=(Instruction(text=edit.instruction),))
    expected = IP2P(backbone, IP2PConfig(steps=2)).edit(request).image
    torch.testing.assert_close(runner.run("ip2p", edit, 1).edited, expected)


def test_doing_nothing_and_the_codec(edit: BrushSet, runner: MethodRunner) -> None:
    assert torch.equal(runner.run("unedited", edit, 1).edited, edit.test.before)
    coded = runner.run("round-trip", edit, 1).edited
    assert coded.shape == edit.test.after.shape
    assert not torch.equal(coded, edit.test.after)


def test_an_edit_that_was_killed_learns_nothing_anew(edit: BrushSet, runner: MethodRunner, tmp_path: Path) -> None:
    first = runner.run("visii", edit, 1)
    (tmp_path / "stripes" / "visii_1.json").unlink()
    seen: list[tuple[int, int]] = []
    again = runner.run("visii", edit, 1, lambda *progress: seen.append(progress))
    assert not seen
    assert torch.equal(again.edited, first.edited)
    assert again.costs["seconds_step"] is None


def test_a_run_may_be_made_longer(backbone: Backbone, edit: BrushSet, runner: MethodRunner, tmp_path: Path) -> None:
    first = runner.run("without-attention", edit, 1)
    longer = MethodRunner(backbone, LearnConfig(steps=3), tmp_path, sampling_steps=2)
    other = longer.run("without-attention", edit, 1)
    assert not torch.equal(other.edited, first.edited)
    record = json.loads((tmp_path / "stripes" / "without-attention_1.json").read_text())
    assert record["settings"]["recipe"]["steps"] == 3
    assert load_brush(tmp_path / "stripes" / "without-attention_1.safetensors").header.learned_steps == 3
