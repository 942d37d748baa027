"""The training pairs of the embedded set: the same in slices or at once, never touched again once there."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from maskedit.bench.blocks import make_pairs
from maskedit.bench.embedded.corpus import CorpusRecipe, blur_scenes, encode_corpus, load_corpus, render_corpus
from maskedit.bench.embedded.vae import VAERecipe, build_vae

RECIPE = CorpusRecipe(shards=2, scenes_per_shard=3, variants=2, image_size=16, blurred_share=0.0)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_vae(VAERecipe(block_out_channels=(16, 16, 16), image_size=16)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, vae: AutoencoderKL) -> Path:
    """A corpus made at once; do not write into it."""
    path = tmp_path_factory.mktemp("corpus")
    build(RECIPE, path, vae)
    return path


def build(
    recipe: CorpusRecipe, folder: Path, vae: AutoencoderKL, *, deadline: float = math.inf
) -> tuple[bool, list[str]]:
    lines: list[str] = []
    render_corpus(recipe, folder, lines.append, "cpu", deadline=deadline)
    return encode_corpus(recipe, vae, folder, lines.append, "cpu", deadline=deadline), lines


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_hold_the_scenes_they_are_asked_for(folder: Path):
    for shard in range(2):
        stored = load_file(folder / f"pairs_{shard:03d}.safetensors")
        scenes = range(3 * shard, 3 * shard + 3)
        pairs = make_pairs("train", scenes, edits=(1, 1, 2), variants=2, height=16)
        assert torch.equal(stored["source"], (pairs.source[::2] * 255).round().to(torch.uint8))
        assert torch.equal(stored["target"], (pairs.target * 255).round().to(torch.uint8))
        assert torch.equal(stored["changed"], pairs.changed)
        for row, masks in zip(stored["masks"], pairs.masks, strict=True):
            assert torch.equal(row[: len(masks)], masks)
            assert not row[len(masks) :].any()


def test_slices_give_the_same_files_as_one_go(folder: Path, vae: AutoencoderKL, tmp_path: Path):
    past = time.monotonic() - 1
    assert build(RECIPE, tmp_path, vae, deadline=past) == (False, [])
    render_corpus(replace(RECIPE, shards=1), tmp_path, lambda _: None, "cpu")
    finished, lines = build(RECIPE, tmp_path, vae, deadline=past)
    assert (finished, lines) == (False, [])
    encode_corpus(RECIPE, vae, tmp_path, lines.append, "cpu")
    assert lines == ["encoded shard 1/2"]
    assert build(RECIPE, tmp_path, vae) == (True, ["rendered shard 2/2", "encoded shard 2/2"])
    assert contents(tmp_path) == contents(folder)


def test_what_is_there_is_left_alone(vae: AutoencoderKL, tmp_path: Path):
    build(RECIPE, tmp_path, vae)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert build(RECIPE, tmp_path, vae) == (True, [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


def test_a_shard_cut_while_written_is_rendered_again(folder: Path, vae: AutoencoderKL, tmp_path: Path):
    (tmp_path / "pairs_000.safetensors.partial").write_bytes(b"half")
    (tmp_path / "latents_000.safetensors.partial").write_bytes(b"half")
    assert build(RECIPE, tmp_path, vae)[0]
    assert contents(tmp_path) == contents(folder)


def test_a_corpus_reads_back_what_was_rendered(folder: Path, vae: AutoencoderKL):
    corpus = load_corpus(RECIPE, folder, "cpu")
    pairs = make_pairs("train", range(6), edits=(1, 1, 2), variants=2, height=16)
    assert corpus.texts == [[(edit.text, edit.keyword) for edit in spec.edits] for spec in pairs.specs]
    assert {len(texts) for texts in corpus.texts} == {1, 2}
    assert corpus.scene.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    with torch.no_grad():
        for own, images in ((corpus.source[corpus.scene], pairs.source), (corpus.target, pairs.target)):
            rounded = (images * 255).round() / 255
            torch.testing.assert_close(own, vae.encode(rounded * 2 - 1).latent_dist.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(corpus.changed, F.avg_pool2d(pairs.changed.float(), 4))
    first = F.avg_pool2d(torch.stack([masks[0] for masks in pairs.masks]).float()[:, None], 4)
    torch.testing.assert_close(corpus.masks[:, :1], first)


def test_blur_hits_a_source_and_its_targets_alike():
    pictures = torch.rand(40, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(-1, 4, -1, -1, -1)
    soft = blur_scenes(pictures, 0.5, torch.Generator().manual_seed(1))
    hit = (soft != pictures).flatten(2).any(2)
    assert 0 < hit[:, 0].sum() < 40
    assert (hit == hit[:, :1]).all()

    # What was the same picture stays so, up to noise that is much smaller than what blur takes away.
    blurred = soft[hit[:, 0]]
    spread = (blurred - blurred.mean(1, keepdim=True)).std()
    assert spread < 0.02
    assert (blurred - pictures[hit[:, 0]]).std() > 5 * spread


def test_whole_scenes_of_a_corpus_are_blurred(folder: Path, vae: AutoencoderKL, tmp_path: Path):
    recipe = replace(RECIPE, blurred_share=0.5)
    assert build(recipe, tmp_path, vae)[0]
    sharp, soft = load_corpus(RECIPE, folder, "cpu"), load_corpus(recipe, tmp_path, "cpu")
    hit = (soft.source != sharp.source).flatten(1).any(1)
    assert 0 < hit.sum() < len(hit)
    assert torch.equal((soft.target != sharp.target).flatten(1).any(1), hit[soft.scene])
