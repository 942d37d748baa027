"""Learning a brush: it learns, resumes to the same tensors, stops when held-out pairs get no better."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.errors import InputError, SessionError
from maskedit.editors.core.optimize import OptimizeConfig, optimize
from maskedit.editors.parts.brush import Brush, load_brush
from maskedit.editors.parts.brush_clip import load_clip
from maskedit.editors.parts.brush_learning import BrushProgress, learn_brush
from maskedit.editors.parts.brush_loss import BrushLoss
from maskedit.editors.parts.brush_options import BrushRecipe, WatchConfig
from maskedit.editors.parts.brush_pairs import BrushPairs
from maskedit.editors.parts.brush_rows import begin_brush

Pictures = Callable[..., torch.Tensor]
RECIPE = BrushRecipe(init_text="turn red into blue", segments=2, steps=6, guidance_scale=2.0, image_guidance_scale=1.2)


@pytest.fixture
def pairs(pictures: Pictures) -> BrushPairs:
    return BrushPairs(names=("0", "1"), before=pictures(2), after=pictures(2).flip(1))


def equal(one: Brush, other: Brush) -> bool:
    return all(torch.equal(rows, other.tensors[name]) for name, rows in one.tensors.items())


def test_it_learns(backbone: Backbone, pairs: BrushPairs) -> None:
    """I12, on the mean of the first and the last steps over the same draws."""
    seen: list[BrushProgress] = []
    recipe = replace(RECIPE, steps=60, learning_rate=3e-2, batch=4)
    brush = learn_brush(backbone, pairs, recipe, name="b", watch=WatchConfig(every=20), look=seen.append)
    curve = seen[-1].curve
    assert curve.shape == (60, 2)
    assert curve[-15:].mean() < curve[:15].mean()
    assert (brush.header.learned_steps, brush.header.pairs, len(brush.header.losses)) == (60, 2, 2)
    assert [each.step for each in seen] == [20, 40, 60]


@pytest.mark.parametrize("keep", ["last", "ema", "lowest"])
def test_a_resumed_run_is_the_same(backbone: Backbone, pairs: BrushPairs, tmp_path: Path, keep: Any) -> None:
    recipe = replace(RECIPE, keep=keep)

    def learn(folder: Path | None, **values: Any) -> Brush:
        return learn_brush(
            backbone, pairs, recipe, name="b", folder=folder, watch=WatchConfig(every=2), held_out=pairs, **values
        )

    expected = learn(None)

    def stop(progress: BrushProgress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, look=stop)
    seen: list[BrushProgress] = []
    assert equal(learn(tmp_path, look=seen.append), expected)
    assert not seen[-1].curve.isnan().any()
    assert [*seen[-1].held_out] == [2, 4, 6]


_KILLED = """
import os, signal, sys, torch
from maskedit.editors import BackboneConfig
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.brush_learning import learn_brush
from maskedit.editors.parts.brush_loss import BrushLoss
from maskedit.editors.parts.brush_options import BrushRecipe, WatchConfig
from maskedit.editors.parts.brush_pairs import BrushPairs
model, folder, kill_at = sys.argv[1:]
backbone = Backbone.load(BackboneConfig(model=model, device="cpu"))
before = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
def die(progress):
    if progress.step == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
recipe = BrushRecipe(init_text="turn red into blue", segments=2, steps=6, guidance_scale=2.0, image_guidance_scale=1.2)
pairs = BrushPairs(names=("0", "1"), before=before, after=before.flip(1))
from pathlib import Path
learn_brush(backbone, pairs, recipe, name="b", folder=Path(folder), watch=WatchConfig(every=2), report=die)
"""


@pytest.mark.slow
def test_a_killed_run_is_the_same(backbone: Backbone, ip2p_folder: Path, pairs: BrushPairs, tmp_path: Path) -> None:
    """Killed between the record of the losses and the state of the same step."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(ip2p_folder), str(tmp_path), "4"], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    watch = WatchConfig(every=2)
    resumed = learn_brush(backbone, pairs, RECIPE, name="b", folder=tmp_path, watch=watch)
    assert equal(resumed, learn_brush(backbone, pairs, RECIPE, name="b", watch=watch))


def test_learning_stops_when_held_out_pairs_get_no_better(
    backbone: Backbone, pairs: BrushPairs, tmp_path: Path
) -> None:
    """A rate so high that every step makes it worse: the best is the first slice."""
    seen: list[BrushProgress] = []
    recipe = replace(RECIPE, steps=40, learning_rate=3.0)
    watch = WatchConfig(every=1, patience=3)
    brush = learn_brush(
        backbone, pairs, recipe, name="b", folder=tmp_path, held_out=pairs, watch=watch, look=seen.append
    )
    best = min(seen[-1].held_out, key=lambda step: seen[-1].held_out[step])
    assert seen[-1].step == best + 3 < 40
    assert brush.header.learned_steps == best == seen[-1].best_step
    assert equal(brush, load_brush(tmp_path / "best.safetensors"))


def test_a_folder_of_another_run_is_refused(backbone: Backbone, pairs: BrushPairs, tmp_path: Path) -> None:
    learn_brush(backbone, pairs, replace(RECIPE, steps=1), name="b", folder=tmp_path)
    with pytest.raises(SessionError, match=r"other settings \(learning_rate\): choose another --out"):
        learn_brush(backbone, pairs, replace(RECIPE, learning_rate=1e-2), name="b", folder=tmp_path)
    with pytest.raises(SessionError, match=r"other settings \(pairs\)"):
        learn_brush(backbone, pairs.part(slice(0, 1)), RECIPE, name="b", folder=tmp_path)
    longer = learn_brush(backbone, pairs, replace(RECIPE, steps=2), name="b", folder=tmp_path)
    assert equal(longer, learn_brush(backbone, pairs, replace(RECIPE, steps=2), name="b"))


def test_nothing_to_learn_is_refused(backbone: Backbone, pairs: BrushPairs) -> None:
    with pytest.raises(InputError, match="at least one learned token"):
        learn_brush(backbone, pairs, BrushRecipe(rows=0), name="b")
    with pytest.raises(InputError, match="no pair shows an edit"):
        learn_brush(backbone, replace(pairs, after=pairs.before), RECIPE, name="b")


def test_no_gradient_changes_nothing(backbone: Backbone, pairs: BrushPairs) -> None:
    """I10: AdamW without weight decay, where the loss is blind to what is learned."""
    loss = BrushLoss(
        backbone,
        (brush := begin_brush(backbone, RECIPE, name="b")).header,
        {name: rows.clone().requires_grad_() for name, rows in brush.tensors.items()},
        RECIPE,
        before=pairs.before,
        after=pairs.after,
    )
    config = OptimizeConfig(steps=1, learning_rate=RECIPE.learning_rate, warmup_steps=0, weight_decay=0.0)

    def blind(step: int, generator: torch.Generator) -> torch.Tensor:
        return 0 * loss(step, generator)

    optimize(loss._parameters, blind, config)
    for name, rows in loss._parameters.items():
        assert torch.equal(rows.detach(), brush.tensors[name]), name


def test_a_direction_needs_a_clip_and_is_part_of_the_run(
    backbone: Backbone, pairs: BrushPairs, clip_folder: Path, tmp_path: Path
) -> None:
    recipe = BrushRecipe(
        kind="visii", learn="embedding", segments=1, init_text="turn red into blue", steps=2, direction_weight=0.1
    )
    with pytest.raises(InputError, match=r"expected a CLIP for a direction_weight of 0\.1, got none"):
        learn_brush(backbone, pairs, recipe, name="b")
    clip = load_clip(str(clip_folder), device="cpu")
    towards = learn_brush(backbone, pairs, recipe, name="b", folder=tmp_path, clip=clip)
    plain = learn_brush(backbone, pairs, replace(recipe, direction_weight=0.0), name="b", clip=clip)
    assert not equal(towards, plain)
    clip.name = "another"
    with pytest.raises(SessionError, match=r"other settings \(clip\)"):
        learn_brush(backbone, pairs, recipe, name="b", folder=tmp_path, clip=clip)


def test_visii_keeps_the_ends_of_its_embedding(backbone: Backbone, pairs: BrushPairs) -> None:
    """I11: start, end and padding are no part of what is learned."""
    recipe = BrushRecipe(kind="visii", learn="embedding", segments=1, init_text="turn red into blue", steps=2)
    brush = learn_brush(backbone, pairs, recipe, name="b")
    words = backbone.tokenizer("turn red into blue", add_special_tokens=False).input_ids
    initial = backbone.embed(["turn red into blue"])[:, 1 : 1 + len(words)]
    assert brush.tensors["embedding"].shape == initial.shape
    assert (brush.tensors["embedding"] - initial).abs().min() > 0
