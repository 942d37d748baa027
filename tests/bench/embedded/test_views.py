"""Views: the same in slices or at once, read back with the scenes they show."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import name_blocks, render
from maskedit.bench.embedded.views import SMALLEST_SHARE, ViewsRecipe, load_views, make_views, render_views
from maskedit.editors import SessionError

RECIPE = ViewsRecipe(shards=2, views_per_shard=6, image_size=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Views rendered at once; do not write into it."""
    path = tmp_path_factory.mktemp("views")
    render_into(RECIPE, path)
    return path


def render_into(recipe: ViewsRecipe, folder: Path, *, deadline: float = math.inf) -> list[str]:
    lines: list[str] = []
    complete = render_views(recipe, folder, lines.append, "cpu", deadline=deadline)
    assert complete == (len(list(folder.glob("*.safetensors"))) == recipe.shards)
    return lines


def test_views_read_back_are_pictures_of_their_scenes(folder: Path):
    views = load_views(RECIPE, folder)
    assert len(views.scenes) == 12
    rendering = render(views.scenes, views.cameras, height=24)
    assert torch.equal(views.pictures, (rendering.rgb * 255).round().to(torch.uint8))
    for block in range(4):
        assert torch.equal(views.index == block, rendering.block_mask(block))
    assert int(views.index.min()) == -1


def test_slices_give_the_same_files_as_one_go(folder: Path, tmp_path: Path):
    assert render_into(RECIPE, tmp_path, deadline=time.monotonic() - 1) == []
    assert render_into(replace(RECIPE, shards=1), tmp_path) == ["rendered views 1/1"]
    (tmp_path / "views_001.safetensors.partial").write_bytes(b"half")
    assert render_into(RECIPE, tmp_path) == ["rendered views 2/2"]
    assert render_into(RECIPE, tmp_path) == []
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_first_shards_can_be_read_before_the_last_are_there(folder: Path, tmp_path: Path):
    render_into(replace(RECIPE, shards=1), tmp_path)
    views = load_views(RECIPE, tmp_path, at_least=1)
    assert torch.equal(views.pictures, load_views(RECIPE, folder).pictures[:6])
    with pytest.raises(SessionError, match="at least 2 shards"):
        load_views(RECIPE, tmp_path)


def test_nothing_rendered_is_refused(tmp_path: Path):
    with pytest.raises(SessionError, match="at least 1 shards"):
        load_views(RECIPE, tmp_path, at_least=0)


@pytest.mark.parametrize("change", [{"image_size": 32}, {"twins_share": 0.5}, {"views_per_shard": 5}])
def test_views_of_another_recipe_are_refused(folder: Path, change: dict[str, float]):
    with pytest.raises(SessionError, match="another recipe"):
        load_views(replace(RECIPE, **change), folder)


def test_splits_show_different_scenes():
    views = [make_views(RECIPE, split, range(8), device="cpu") for split in ("train", "validation", "test")]
    assert len({scene.light_azimuth for each in views for scene in each.scenes}) == 24


def test_as_many_scenes_have_twins_as_asked():
    for share, low, high in ((0.0, 0, 18), (1.0, 60, 60)):
        recipe = ViewsRecipe(twins_share=share, image_size=8)
        scenes = make_views(recipe, "validation", range(60), device="cpu").scenes
        nouns = [[block.noun for block in scene.blocks] for scene in scenes]
        assert low <= sum(len(set(row)) < len(row) for row in nouns) <= high
        assert {len(row) for row in nouns} >= {2, 3, 4}


def test_what_is_visible_can_be_named():
    views = make_views(ViewsRecipe(twins_share=1.0, image_size=48), "validation", range(12), device="cpu")
    found = 0
    for view, scene in enumerate(views.scenes):
        visible = views.visible(view)
        for block in range(len(scene.blocks)):
            pixels = int((views.index[view] == block).sum())
            assert (pixels >= SMALLEST_SHARE * 48 * 48) == (block in visible)
            assert visible.get(block, pixels) == pixels
        named = name_blocks(scene, "twin", visible=visible, across=views.across(view), reflected_visible={})
        for one in named:
            columns = (views.index[view] == one.targets[0]).nonzero()[:, 1].float().mean().item()
            assert abs(columns - 23.5 - 24 * views.across(view)[one.targets[0]]) < 7
            found += 1
    assert found > 10


@pytest.mark.parametrize("change", [{"twins_share": 1.5}, {"shards": 0}, {"image_size": 0}])
def test_recipes_out_of_range_are_refused(change: dict[str, float]):
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
        replace(RECIPE, **change)


def test_views_are_far_from_the_training_pairs(folder: Path):
    first = load_views(RECIPE, folder).scenes[0]
    assert first == make_views(RECIPE, "train", [50_000_000], device="cpu").scenes[0]
