"""The embedded SmartEdit: its stages follow each other, cut anywhere, and its checkpoint edits."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import LlavaForConditionalGeneration

from maskedit.bench.embedded.clip import installed_part
from maskedit.bench.embedded.llava import LlavaRecipe, TrainedLlava, build_llava, talk_vocabulary
from maskedit.bench.embedded.reading_corpus import SORTS, ReadingCorpusRecipe, load_reading
from maskedit.bench.embedded.smartedit import (
    BASE,
    AlignRecipe,
    EmbeddedSmartEditRecipe,
    Shares,
    TrainedSmartEdit,
    align_loss,
    begin_embedded,
    export_smartedit,
    find_alignment,
    mix_samples,
    train_smartedit,
)
from maskedit.bench.embedded.talk import TalkRecipe, load_album, render_album
from maskedit.bench.embedded.tokenizer import build_tokenizer
from maskedit.bench.embedded.views import ViewsRecipe
from maskedit.editors import (
    BackboneConfig,
    OptimizeConfig,
    SessionError,
    SmartEditArchitecture,
    SmartEditRecipe,
    load_smartedit,
)

OPTIMIZE = OptimizeConfig(steps=2, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5)
TALK = TalkRecipe(views=ViewsRecipe(shards=1, views_per_shard=6, image_size=16), mirror_shards=1)
LLAVA = LlavaRecipe(talk=TALK, width=32, layers=1, feed_forward=48, from_clip=False, optimize=OPTIMIZE)
SECOND = SmartEditRecipe(steps=1, batch=2, micro_batch=2, size=16, dropout=False, changed_weight=3.0)
RECIPE = EmbeddedSmartEditRecipe(
    talk=TALK,
    corpus=ReadingCorpusRecipe(plain=1, understanding=1, reasoning=1, segmentation=1, pairs_per_shard=4, image_size=16),
    architecture=SmartEditArchitecture(
        image_tokens=3,
        queries=48,
        context_width=128,
        qformer_layers=1,
        qformer_heads=2,
        qformer_intermediate=32,
        interaction_width=128,
        interaction_depth=1,
        interaction_heads=2,
        interaction_mlp=32,
        unet_width=64,
    ),
    align=AlignRecipe(batch_size=4, optimize=OPTIMIZE),
    first=SECOND,
    second=SECOND,
)


@pytest.fixture(scope="module")
def llava() -> TrainedLlava:
    tokenizer = build_tokenizer(talk_vocabulary(), length=LLAVA.length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TrainedLlava(model=build_llava(LLAVA, tokenizer).eval(), tokenizer=tokenizer, step=2)


@pytest.fixture(scope="module")
def folder(llava: TrainedLlava, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With pictures, and nothing trained."""
    place = tmp_path_factory.mktemp("smartedit")
    assert render_album(TALK, place, lambda _: None, "cpu")
    assert train_smartedit(RECIPE, llava, place, device="cpu", max_seconds=-1.0, report=lambda _: None) is None
    return place


@pytest.fixture(scope="module")
def trained(llava: TrainedLlava, folder: Path) -> TrainedSmartEdit:
    done = train_smartedit(RECIPE, llava, folder, device="cpu", report=lambda _: None)
    assert done is not None
    return done


def values(trained: TrainedSmartEdit) -> dict[str, torch.Tensor]:
    return {**trained.model.state_dict(), **{f"unet.{n}": each for n, each in trained.unet.state_dict().items()}}


def test_all_stages_follow_each_other(trained: TrainedSmartEdit, folder: Path):
    assert trained.step == RECIPE.steps == 4
    assert {path.name for path in (folder / "smartedit").iterdir()} == {"mllm", "align.state", "first", "second"}


def test_a_finished_run_is_loaded_and_not_trained_again(llava: TrainedLlava, folder: Path, trained: TrainedSmartEdit):
    again = train_smartedit(RECIPE, llava, folder, device="cpu", max_seconds=1e-3, report=lambda _: None)
    assert again is not None
    assert again.step == RECIPE.steps
    for name, value in values(trained).items():
        assert torch.equal(value, values(again)[name]), name


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, align=replace(RECIPE.align, captions=0.5)),
        replace(RECIPE, align=replace(RECIPE.align, optimize=replace(OPTIMIZE, learning_rate=2e-3))),
        replace(RECIPE, lora=replace(RECIPE.lora, alpha=32)),
        replace(RECIPE, shares=Shares(talk=0.5)),
    ],
)
def test_a_run_of_another_recipe_is_refused(llava: TrainedLlava, folder: Path, trained: TrainedSmartEdit, other):
    with pytest.raises(SessionError, match="another run"):
        train_smartedit(other, llava, folder, device="cpu", report=lambda _: None)


def test_the_second_stage_moves_the_unet_and_leaves_the_llava(trained: TrainedSmartEdit, llava: TrainedLlava):
    _, begun = begin_embedded(RECIPE, Path(str(trained.model.mllm.location)), device="cpu")
    moved = [n for n, each in begun.unet.state_dict().items() if not torch.equal(each, trained.unet.state_dict()[n])]
    assert moved
    assert torch.equal(trained.model.mllm.llava.lm_head.weight, llava.model.lm_head.weight.half().float())


def test_an_export_loads_beside_the_embedded_editor(trained: TrainedSmartEdit, tmp_path: Path):
    place = tmp_path / "smartedit"
    export_smartedit(trained, place)
    for path in place.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} <= {"F16", "I64"}  # noqa: SIM118
    loaded = load_smartedit(place, BackboneConfig(model=str(place), device="cpu"))
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    reading, wanted = (each.read(picture, ["make the left cube red"]) for each in (loaded, trained.model))
    torch.testing.assert_close(reading.contexts, wanted.contexts, rtol=2e-2, atol=2e-2)
    assert isinstance(loaded.mllm.llava, LlavaForConditionalGeneration)
    # What is shared with the embedded editor is not stored twice: the set must have it beside.
    assert not [part for part in ("vae", "text_encoder", "tokenizer") if (place / part).exists()]
    assert json.loads((place / "maskedit.json").read_text())["base"] == "../instruct-pix2pix"
    assert (place / BASE).resolve().name == installed_part("instruct-pix2pix").name


def test_the_first_stage_learns_pictures_and_captions(trained: TrainedSmartEdit, folder: Path):
    model, backbone = begin_embedded(RECIPE, folder / "smartedit" / "mllm", device="cpu")
    alignment = find_alignment({sort: load_reading(RECIPE.corpus, folder, sort) for sort in SORTS})
    assert alignment.rows
    assert all(alignment.pairs[sort].plain[row] for sort, row in alignment.rows)
    parameters = model.trainable("2a")
    for captions in (0.0, 1.0):
        recipe = replace(RECIPE.align, captions=captions)
        first, second = (
            align_loss(model, backbone, recipe, alignment, torch.Generator().manual_seed(1)) for _ in range(2)
        )
        assert torch.equal(first, second)
        first.backward()
    assert all(each.grad is not None for name, each in parameters.items() if "qformer" in name)
    assert parameters["mllm.new_inputs"].grad is not None


def test_ablations_leave_sources_out(folder: Path):
    album = load_album(TALK, folder)
    pairs = {sort: load_reading(RECIPE.corpus, folder, sort) for sort in SORTS}
    edits = mix_samples(Shares(understanding=0.0, reasoning=0.0, segmentation=0.0, talk=0.0), pairs, album)
    assert edits.names == ("plain",)
    assert {edits.draw(number).text for number in range(20)} <= set(pairs["plain"].texts)
    assert mix_samples(Shares(), pairs, album).names == (*SORTS, "talk")


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="talk must be at least 0, got -1"):
        Shares(talk=-1.0)
    with pytest.raises(ValueError, match="some sort of edit"):
        Shares(plain=0.0, understanding=0.0, reasoning=0.0, segmentation=0.0)
    with pytest.raises(ValueError, match="captions must be in"):
        AlignRecipe(captions=2.0)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        AlignRecipe(batch_size=0)
