"""Training the embedded set: stage after stage, and cut anywhere it gives the same bits."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maskedit.bench.embedded.clip import ClipRecipe
from maskedit.bench.embedded.clip_views import StatesRecipe
from maskedit.bench.embedded.corpus import CorpusRecipe
from maskedit.bench.embedded.editor import EditorRecipe
from maskedit.bench.embedded.inpainting import InpaintingRecipe
from maskedit.bench.embedded.llava import LlavaRecipe
from maskedit.bench.embedded.reading_corpus import ReadingCorpusRecipe
from maskedit.bench.embedded.segmenter import SegmenterRecipe
from maskedit.bench.embedded.smartedit import AlignRecipe, EmbeddedSmartEditRecipe
from maskedit.bench.embedded.talk import TalkRecipe
from maskedit.bench.embedded.text_to_image import TextToImageRecipe
from maskedit.bench.embedded.train import (
    PARTS,
    EmbeddedRecipe,
    Part,
    TrainedSet,
    train_editor,
    train_embedded,
    train_part,
    train_vae,
)
from maskedit.bench.embedded.vae import VAERecipe
from maskedit.bench.embedded.views import ViewsRecipe
from maskedit.editors import OptimizeConfig, SessionError, SmartEditRecipe

STEPS = 2
OPTIMIZE = OptimizeConfig(steps=STEPS, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5)
VIEWS = ViewsRecipe(shards=1, views_per_shard=8, image_size=16)
TALK = TalkRecipe(views=VIEWS, mirror_shards=1)
RECIPE = EmbeddedRecipe(
    vae=VAERecipe(block_out_channels=(16, 16, 16), image_size=16, batch_size=32, optimize=OPTIMIZE),
    corpus=CorpusRecipe(shards=1, scenes_per_shard=4, variants=2, image_size=16),
    editor=EditorRecipe(block_out_channels=(16, 32), text_width=32, text_layers=1, batch_size=2, optimize=OPTIMIZE),
    text_to_image=TextToImageRecipe(
        block_out_channels=(16, 32), text_width=32, text_layers=1, batch_size=2, views=VIEWS, optimize=OPTIMIZE
    ),
    inpainting=InpaintingRecipe(batch_size=2, optimize=OPTIMIZE),
    segmenter=SegmenterRecipe(vision_width=16, text_width=32, batch_size=2, views=VIEWS, optimize=OPTIMIZE),
    clip=ClipRecipe(
        states=StatesRecipe(shards=1, scenes_per_shard=4, edits=1, image_size=16),
        vision_width=16,
        vision_layers=1,
        text_layers=1,
        projection=16,
        from_segmenter=False,
        batch_scenes=2,
        optimize=OPTIMIZE,
    ),
    llava=LlavaRecipe(
        talk=TALK, width=32, layers=1, feed_forward=48, from_clip=False, batch_size=2, questions=2, optimize=OPTIMIZE
    ),
    smartedit=EmbeddedSmartEditRecipe(
        talk=TALK,
        corpus=ReadingCorpusRecipe(
            plain=1, understanding=1, reasoning=1, segmentation=1, pairs_per_shard=4, image_size=16
        ),
        align=AlignRecipe(batch_size=2, optimize=OPTIMIZE),
        first=SmartEditRecipe(steps=1, batch=2, micro_batch=2, size=16),
        second=SmartEditRecipe(steps=1, batch=2, micro_batch=2, size=16),
    ),
)
MOMENT = 1e-3
"""Seconds: enough to begin one step, and less than a step takes."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedSet, list[str]]:
    """A set trained in one go: its folder (do not write into it), the set, what was reported."""
    folder, lines = tmp_path_factory.mktemp("whole"), list[str]()
    trained = train_embedded(RECIPE, folder, device="cpu", report=lines.append)
    assert trained is not None
    return folder, trained, lines


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def copied(folder: Path, to: Path, *names: str) -> Path:
    for name in names:
        shutil.copy(folder / name, to / name)
    return to


def test_one_go_passes_every_stage_and_says_so(whole: tuple[Path, TrainedSet, list[str]]):
    folder, trained, lines = whole
    assert trained.step == STEPS
    assert not trained.vae.training
    assert not trained.model.training
    stages = ("vae 2/2", "vae psnr:", "vae psnr_objects:", "vae psnr_rest:", "rendered", "encoded", "editor 2/2")
    assert [next(i for i, line in enumerate(lines) if line.startswith(stage)) for stage in stages] == list(range(7))
    names = {"vae.state", "vae.safetensors", "pairs_000.safetensors", "latents_000.safetensors", "editor.state"}
    assert {path.name for path in folder.iterdir()} == names


def test_latents_of_the_finished_autoencoder_have_unit_variance(whole: tuple[Path, TrainedSet, list[str]]):
    latents = load_file(whole[0] / "latents_000.safetensors")["source"]
    assert latents.shape == (4, 4, 4, 4)
    assert latents.mean().abs() < 0.3
    assert latents.std() == pytest.approx(1, abs=0.3)


def test_the_autoencoder_in_slices_equals_one_go(whole: tuple[Path, TrainedSet, list[str]], tmp_path: Path):
    vae, slices = None, 0
    while vae is None:
        assert not (tmp_path / "vae.safetensors").exists()
        vae = train_vae(RECIPE.vae, tmp_path, device="cpu", max_seconds=MOMENT, report=lambda _: None)
        slices += 1
    assert slices >= STEPS
    for name in ("vae.state", "vae.safetensors"):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()
    assert same(vae.state_dict(), whole[1].vae.state_dict())


def test_the_editor_in_slices_equals_one_go(whole: tuple[Path, TrainedSet, list[str]], tmp_path: Path):
    folder, trained, _ = whole
    copied(folder, tmp_path, "latents_000.safetensors")
    steps, sliced = [0], None
    while sliced is None or sliced.step < STEPS:
        sliced = train_editor(RECIPE, trained.vae, tmp_path, device="cpu", max_seconds=MOMENT, report=lambda _: None)
        steps.append(sliced.step)
    assert len(set(steps)) == STEPS + 1
    assert same(sliced.model.state_dict(), trained.model.state_dict())
    assert (tmp_path / "editor.state").read_bytes() == (folder / "editor.state").read_bytes()


def test_global_randomness_is_neither_used_nor_changed(whole: tuple[Path, TrainedSet, list[str]], tmp_path: Path):
    copied(whole[0], tmp_path, "latents_000.safetensors")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        before = torch.get_rng_state()
        again = train_editor(RECIPE, whole[1].vae, tmp_path, device="cpu", max_seconds=math.inf, report=lambda _: None)
        assert torch.equal(torch.get_rng_state(), before)
    assert same(again.model.state_dict(), whole[1].model.state_dict())


def test_a_finished_set_is_loaded_and_not_trained_again(whole: tuple[Path, TrainedSet, list[str]], tmp_path: Path):
    copied(whole[0], tmp_path, *(path.name for path in whole[0].iterdir()))
    lines: list[str] = []
    again = train_embedded(RECIPE, tmp_path, device="cpu", report=lines.append)
    assert again is not None
    assert lines == []
    assert again.step == STEPS
    assert same(again.model.state_dict(), whole[1].model.state_dict())
    assert same(again.vae.state_dict(), whole[1].vae.state_dict())


def test_a_slice_without_time_gets_nowhere_and_loses_nothing(tmp_path: Path):
    assert train_embedded(RECIPE, tmp_path, device="cpu", max_seconds=0.0, report=lambda _: None) is None
    assert [path.name for path in tmp_path.iterdir()] == ["vae.state"]


def test_no_editor_before_all_pairs_are_encoded(whole: tuple[Path, TrainedSet, list[str]], tmp_path: Path):
    copied(whole[0], tmp_path, "vae.safetensors", "pairs_000.safetensors")
    assert train_embedded(RECIPE, tmp_path, device="cpu", max_seconds=0.0, report=lambda _: None) is None
    assert not (tmp_path / "latents_000.safetensors").exists()


def test_a_folder_of_another_recipe_is_refused(whole: tuple[Path, TrainedSet, list[str]], tmp_path: Path):
    copied(whole[0], tmp_path, "latents_000.safetensors", "editor.state")
    wider = replace(RECIPE, editor=replace(RECIPE.editor, block_out_channels=(32, 32)))
    with pytest.raises(SessionError, match="other tensors"):
        train_editor(wider, whole[1].vae, tmp_path, device="cpu", max_seconds=math.inf, report=lambda _: None)


def test_the_other_parts_use_the_sets_own_autoencoder_and_each_other(
    whole: tuple[Path, TrainedSet, list[str]], tmp_path: Path
):
    copied(whole[0], tmp_path, "vae.safetensors")

    def train(part: Part) -> None:
        trained = train_part(part, RECIPE, tmp_path, device="cpu", report=lambda _: None)
        assert trained is not None
        # SmartEdit has three stages, of which the last two take a step.
        assert trained.step == RECIPE.steps(part) == (STEPS + 2 if part == "smartedit" else STEPS)
        if not isinstance(trained, TrainedSet) and hasattr(trained, "vae"):
            assert same(trained.vae.state_dict(), whole[1].vae.state_dict())

    with pytest.raises(SessionError, match="--part text-to-image first"):
        train("inpainting")
    with pytest.raises(SessionError, match="--part llava first"):
        train("smartedit")
    for part in PARTS[1:]:
        train(part)
    states = {path.name for path in tmp_path.glob("*.state")}
    assert states == {f"{name}.state" for name in ("text_to_image", "inpainting", "segmenter", "clip", "llava")}


def test_no_part_begins_before_its_views_are_rendered(tmp_path: Path):
    for part in PARTS[1:-1]:
        assert train_part(part, RECIPE, tmp_path, device="cpu", max_seconds=0.0, report=lambda _: None) is None
    assert not list(tmp_path.iterdir())
