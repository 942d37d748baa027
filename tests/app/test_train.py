"""`maskedit train embedded` in slices, with a recipe that takes seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskedit.editors import Backbone, BackboneConfig

TINY = [
    *("--recipe.vae.block-out-channels", 16, 16, 16, "--recipe.vae.image-size", 32, "--recipe.vae.batch-size", 4),
    *("--recipe.vae.optimize.steps", 1, "--recipe.corpus.shards", 1, "--recipe.corpus.scenes-per-shard", 50),
    *("--recipe.corpus.variants", 1, "--recipe.corpus.image-size", 32, "--recipe.editor.block-out-channels", 16, 32),
    *("--recipe.editor.text-layers", 1, "--recipe.editor.optimize.steps", 2, "--recipe.editor.batch-size", 2),
]


def test_training_ends_with_a_checkpoint_that_loads(call: Callable[..., Any], tmp_path: Path) -> None:
    arguments = ["train", "embedded", "--folder", tmp_path / "work", "--device", "cpu", *TINY]
    first = call(*arguments, "--minutes", 1e-5)
    assert first.code == 0, first.err
    assert "not finished" in first.out
    assert "go on with:\n  maskedit " in first.out
    assert not (tmp_path / "work" / "export").exists()

    second = call(*arguments, "--minutes", 5, "--export", tmp_path / "checkpoint")
    assert second.code == 0, second.err
    assert "step 2 of 2" in second.out
    assert second.out.splitlines()[-1] == "finished"
    backbone = Backbone.load(BackboneConfig(model=str(tmp_path / "checkpoint"), device="cpu"))
    assert "blocks" in backbone.preset.knows


def test_other_folders_are_not_overwritten(call: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    done = call("train", "embedded", "--folder", tmp_path / "work", "--export", tmp_path / "photos")
    assert done.code == 2
    assert "choose another --export" in done.err
    assert not (tmp_path / "work").exists()


def test_impossible_lengths_are_refused(call: Callable[..., Any], tmp_path: Path) -> None:
    done = call("train", "embedded", "--folder", tmp_path / "work", "--minutes", 0)
    assert done.code == 2
    assert "--minutes must be above 0, got 0" in done.err
