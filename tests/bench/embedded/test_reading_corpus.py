"""What the embedded SmartEdit learns from: every sort in plain words where there are any, and nothing held out."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.bench.embedded.reading_corpus import (
    SORTS,
    ReadingCorpusRecipe,
    Talks,
    load_reading,
    painted_pairs,
    render_reading,
)
from maskedit.bench.embedded.talk import Album, TalkRecipe, join_albums, make_mirrors
from maskedit.bench.embedded.views import ViewsRecipe, make_views
from maskedit.editors import Backbone, BackboneConfig, EncodedSample, SessionError

RECIPE = ReadingCorpusRecipe(plain=1, understanding=1, reasoning=1, segmentation=1, pairs_per_shard=6, image_size=16)
TALK = TalkRecipe(views=ViewsRecipe(shards=1, views_per_shard=5, image_size=16), mirror_shards=1)


@pytest.fixture(scope="module")
def album() -> Album:
    views = make_views(TALK.views, "train", range(5), device="cpu")
    plain = Album(
        pictures=views.pictures,
        index=views.index,
        reflection=torch.full_like(views.index, -1),
        scenes=tuple(zip(views.scenes, views.cameras, strict=True)),
    )
    return join_albums([plain, make_mirrors(TALK, "train", range(5), device="cpu")])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load(BackboneConfig(model="embedded", device="cpu"))


@pytest.fixture(scope="module")
def folder(album: Album, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reading")
    assert not render_reading(RECIPE, backbone, album, place, lambda _: None, "cpu", deadline=-math.inf)
    assert render_reading(RECIPE, backbone, album, place, lambda _: None, "cpu")
    return place


@pytest.mark.parametrize("sort", SORTS)
def test_pairs_come_back_as_samples_with_their_latents(folder: Path, backbone: Backbone, sort):
    pairs = load_reading(RECIPE, folder, sort)
    assert 0 < len(pairs) <= 6
    sample = pairs.read(0, np.random.default_rng(0))
    assert isinstance(sample, EncodedSample) and sample.is_edit
    assert sample.image is not None and sample.image_latents is not None
    wanted = backbone.encode(sample.image[None], keep=False)[0]
    torch.testing.assert_close(sample.image_latents, wanted, rtol=1e-2, atol=1e-2)
    assert not torch.equal(pairs.source, pairs.target)


def test_plain_words_are_those_of_the_embedded_editor(folder: Path, backbone: Backbone):
    for sort in SORTS:
        pairs = load_reading(RECIPE, folder, sort)
        assert (sort == "segmentation") == (not any(pairs.plain))
        if sort == "plain":
            assert pairs.plain == pairs.texts
        for text in filter(None, pairs.plain):
            assert len(backbone.tokenizer(text).input_ids) == len(text.replace(",", " ,").split()) + 2
    reasoning = load_reading(RECIPE, folder, "reasoning")
    assert all("thing that" in text or "shaped like" in text for text in reasoning.texts)
    assert not any("thing" in text for text in reasoning.plain)


def test_shards_that_are_there_are_not_rendered_again(folder: Path, backbone: Backbone, album: Album):
    lines: list[str] = []
    assert render_reading(RECIPE, backbone, album, folder, lines.append, "cpu", deadline=-math.inf)
    assert lines == []


def test_what_is_painted_over_is_what_the_phrase_names(album: Album):
    source, target, texts = painted_pairs(album, list(range(len(album))))
    assert len(source) == len(target) == len(texts) > 0
    again = painted_pairs(album, list(range(len(album))))
    assert torch.equal(target, again[1]) and texts == again[2]
    for before, after, text in zip(source, target, texts, strict=True):
        changed = (before != after).any(0)
        assert 0 < changed.float().mean() < 0.8
        assert "color" in text


def test_talks_have_an_answer_and_the_picture_they_are_about(album: Album):
    talks = Talks(album)
    assert len(talks) == len(album)
    sample = talks.read(2, np.random.default_rng(1))
    assert sample.answer and not sample.is_edit and sample.image is not None
    assert sample.image.shape == (3, 16, 16)
    asked = {talks.read(index, np.random.default_rng(seed)).text for index in range(len(talks)) for seed in range(20)}
    # Neither held-out phrasings nor instructions, which an edit begins with.
    assert not [text for text in asked if "than the other" in text or "that is on" in text or "object" in text]
    assert {text.split()[0] for text in asked} <= {"which", "where", "what", "how", "is"}


def test_missing_and_foreign_shards_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(SessionError, match="shards of reasoning"):
        load_reading(RECIPE, tmp_path, "reasoning")
    other = ReadingCorpusRecipe(plain=1, understanding=1, reasoning=1, segmentation=1, pairs_per_shard=7)
    with pytest.raises(SessionError, match="another recipe"):
        load_reading(other, folder, "plain")


def test_shards_of_another_origin_are_refused(folder: Path, backbone: Backbone, album: Album, tmp_path: Path):
    assert len(load_reading(RECIPE, folder, "plain", origin="one")) > 0
    assert render_reading(RECIPE, backbone, album, tmp_path, lambda _: None, "cpu", origin="one")
    assert len(load_reading(RECIPE, tmp_path, "plain", origin="one")) > 0
    with pytest.raises(SessionError, match="another autoencoder or album"):
        load_reading(RECIPE, tmp_path, "plain", origin="two")


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="plain must be at least 1, got 0"):
        ReadingCorpusRecipe(plain=0)
