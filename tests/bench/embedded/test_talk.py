"""Pictures to be asked about: the same ones from the same seeds, half of them with a mirror."""

import math
from pathlib import Path

import pytest
import torch

from maskedit.bench.embedded.talk import Album, TalkRecipe, join_albums, load_album, make_mirrors, render_album
from maskedit.bench.embedded.views import ViewsRecipe
from maskedit.editors import SessionError

RECIPE = TalkRecipe(views=ViewsRecipe(shards=1, views_per_shard=4, image_size=32), mirror_shards=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("album")
    assert render_album(RECIPE, place, lambda _: None, "cpu")
    return place


def test_views_come_first_and_mirrors_behind_them(folder: Path):
    album = load_album(RECIPE, folder)
    assert len(album) == 8
    assert [scene.mirror is not None for scene, _ in album.scenes] == [False] * 4 + [True] * 4
    assert album.pictures.shape == (8, 3, 32, 32)
    assert (album.reflection[:4] == -1).all()
    assert (album.reflection[4:] >= 0).any()


def test_what_is_seen_is_found_once_and_fits_the_scene(folder: Path):
    album = load_album(RECIPE, folder)
    for picture in range(len(album)):
        seen = album.seen(picture)
        assert seen is album.seen(picture)
        assert seen.scene == album.scenes[picture][0]
        assert set(seen.visible) <= set(range(len(seen.scene.blocks)))


def test_shards_that_are_there_are_not_rendered_again(folder: Path):
    lines: list[str] = []
    assert render_album(RECIPE, folder, lines.append, "cpu", deadline=-math.inf)
    assert lines == []


def test_mirrors_are_the_same_in_any_order():
    together = make_mirrors(RECIPE, "validation", [3, 5], device="cpu")
    alone = make_mirrors(RECIPE, "validation", [5], device="cpu")
    assert torch.equal(together.pictures[1:], alone.pictures)
    assert together.scenes[1] == alone.scenes[0]
    joined = join_albums([together, alone])
    assert isinstance(joined, Album)
    assert len(joined) == 3


def test_missing_and_foreign_shards_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(SessionError, match="shards of"):
        load_album(RECIPE, tmp_path)
    assert render_album(RECIPE, tmp_path, lambda _: None, "cpu")
    other = TalkRecipe(views=RECIPE.views, mirror_shards=2)
    with pytest.raises(SessionError, match="2 shards of mirrors"):
        load_album(other, tmp_path)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="mirror_shards must be at least 1, got 0"):
        TalkRecipe(mirror_shards=0)
