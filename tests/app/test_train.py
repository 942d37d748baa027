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
    *("--recipe.text-to-image.views.shards", 1, "--recipe.text-to-image.views.views-per-shard", 8),
    *("--recipe.text-to-image.views.image-size", 32, "--recipe.text-to-image.block-out-channels", 16, 32),
    *("--recipe.text-to-image.optimize.steps", 2, "--recipe.text-to-image.batch-size", 2),
    *("--recipe.inpainting.optimize.steps", 2, "--recipe.inpainting.batch-size", 2),
    *("--recipe.segmenter.views.shards", 1, "--recipe.segmenter.views.views-per-shard", 8),
    *("--recipe.segmenter.views.image-size", 32, "--recipe.segmenter.optimize.steps", 2),
    *("--recipe.segmenter.vision-width", 32, "--recipe.segmenter.batch-size", 2),
    *("--recipe.clip.states.shards", 1, "--recipe.clip.states.scenes-per-shard", 4, "--recipe.clip.states.edits", 1),
    *("--recipe.clip.states.image-size", 32, "--recipe.clip.optimize.steps", 2, "--recipe.clip.batch-scenes", 2),
    *("--recipe.clip.vision-width", 32, "--recipe.clip.vision-layers", 1, "--recipe.clip.no-from-segmenter"),
    *("--recipe.llava.talk.views.shards", 1, "--recipe.llava.talk.views.views-per-shard", 8),
    *("--recipe.llava.talk.views.image-size", 32, "--recipe.llava.talk.mirror-shards", 1, "--recipe.llava.layers", 1),
    *("--recipe.llava.no-from-clip", "--recipe.llava.batch-size", 2, "--recipe.llava.optimize.steps", 2),
    *("--recipe.smartedit.talk.views.shards", 1, "--recipe.smartedit.talk.views.views-per-shard", 8),
    *("--recipe.smartedit.talk.views.image-size", 32, "--recipe.smartedit.talk.mirror-shards", 1),
    *("--recipe.smartedit.corpus.plain", 1, "--recipe.smartedit.corpus.understanding", 1),
    *("--recipe.smartedit.corpus.reasoning", 1, "--recipe.smartedit.corpus.segmentation", 1),
    *("--recipe.smartedit.corpus.pairs-per-shard", 4, "--recipe.smartedit.corpus.image-size", 32),
    *("--recipe.smartedit.align.optimize.steps", 2, "--recipe.smartedit.align.batch-size", 2),
    *("--recipe.smartedit.first.steps", 1, "--recipe.smartedit.first.batch", 2, "--recipe.smartedit.first.size", 32),
    *("--recipe.smartedit.second.steps", 1, "--recipe.smartedit.second.batch", 2, "--recipe.smartedit.second.size", 32),
]


def test_training_ends_with_checkpoints_that_load(call: Callable[..., Any], tmp_path: Path) -> None:
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
    folders = ["clip", "clipseg", "inpainting", "instruct-pix2pix", "llava", "smartedit", "text-to-image"]
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == folders
    for name, channels in (("instruct-pix2pix", 8), ("text-to-image", 4), ("inpainting", 9)):
        backbone = Backbone.load(BackboneConfig(model=str(tmp_path / "checkpoint" / name), device="cpu"))
        assert "blocks" in backbone.preset.knows
        assert backbone.unet.config.in_channels == channels


def test_one_part_alone(call: Callable[..., Any], tmp_path: Path) -> None:
    done = call("train", "embedded", "--folder", tmp_path, "--device", "cpu", *TINY, "--part", "text-to-image")
    assert done.code == 0, done.err
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["text-to-image"]
    assert not (tmp_path / "vae.state").exists()


def test_inpainting_needs_the_text_to_image_part(call: Callable[..., Any], tmp_path: Path) -> None:
    done = call("train", "embedded", "--folder", tmp_path, "--device", "cpu", *TINY, "--part", "inpainting")
    assert done.code == 2
    assert "train --part text-to-image first" in done.err


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
