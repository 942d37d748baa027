"""What ties views together: what is refused, which noise and attention a batch gets, and that runs repeat it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import InputError, Instruction, IP2PConfig, ViewSharing
from maskedit.plugin.consistency import ConsistencyConfig, ViewTies
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.noise import AnchoredNoise
from maskedit.plugin.ranks import check_ranks
from maskedit.plugin.slot import EditView, Settings, batch_request
from maskedit.plugin.storage import to_bytes
from maskedit.plugin.update import EditSchedule

SCHEDULE = EditSchedule(rate=1, count=2, views=4, lower=0.02, upper=0.98, seed=3)
ANCHORED = ConsistencyConfig(noise="anchored")
RED = (Instruction(text="make the red square white"),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": 0.0}, r"cell must be in \(0, 1\], got 0"),
        ({"cell": 2.0}, r"cell must be in \(0, 1\], got 2"),
        ({"references": 0}, "references must be at least 1, got 0"),
        ({"own_share": 1.2}, r"own_share must be in \[0, 1\], got 1.2"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConsistencyConfig(**options)


@pytest.mark.parametrize(
    ("config", "editor", "count", "message"),
    [
        (ANCHORED, SceneEditorConfig(name="instructedit"), 1, "pass --pipeline.consistency.noise independent"),
        (ConsistencyConfig(share_views="all"), SceneEditorConfig(), 1, "edit-count is 1: pass --pipeline.edit-count 4"),
        (
            ConsistencyConfig(share_views="references"),
            SceneEditorConfig(name="ip2p", ip2p=IP2PConfig(chunk=3)),
            4,
            "4 views share attention and must run together, but chunk is 3: pass --pipeline.editor.ip2p.chunk 4",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_flag(
    config: ConsistencyConfig, editor: SceneEditorConfig, count: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        config.check(editor, count)


def test_views_that_share_attention_are_not_divided_over_devices(config: Any) -> None:
    made = config(consistency=ConsistencyConfig(share_views="all"))
    made.machine.device_type, made.machine.num_devices = "cuda", 2
    with pytest.raises(InputError, match="edits are divided over 2 devices or share attention, not both: pass"):
        check_ranks(made)


def test_what_can_be_done_is_not_refused() -> None:
    ConsistencyConfig().check(SceneEditorConfig(name="mdp"), 1)
    ANCHORED.check(SceneEditorConfig(name="inpaint"), 1)
    ConsistencyConfig(share_views="all").check(SceneEditorConfig(name="mdp"), 2)


def test_flags_become_settings_of_shared_attention() -> None:
    assert ConsistencyConfig().sharing is None
    given = ConsistencyConfig(share_views="references", references=2, own_share=0.3)
    assert given.sharing == ViewSharing(among="references", references=2, own_share=0.3)


@pytest.fixture
def views(load: Any) -> Callable[..., list[EditView]]:
    """Views of the toy scene at some edits, which see a floor."""
    data = load()

    def make(*indices: int) -> list[EditView]:
        made: list[EditView] = []
        for index in indices:
            turn = SCHEDULE.turn(index, step=0)
            rays = data.camera(turn.view).generate_rays(camera_indices=0, keep_shape=True)
            original = data.original(turn.view)
            render = torch.rand(1, 3, *original.shape[:2], generator=torch.Generator().manual_seed(index))
            mask = to_bytes(torch.ones(original.shape[:2]))
            points = rays.origins + 2 * rays.directions
            made.append(EditView(turn=turn, original=original, render=render, masks=(mask,), points=points))
        return made

    make.data = data  # type: ignore[attr-defined]
    return make


def tied(views: Any, config: ConsistencyConfig, *indices: int, draws_noise: bool = True, **options: Any) -> Any:
    made = views(*indices)
    request = batch_request(made, Settings(instructions=RED), draws_noise)
    return ViewTies(config, views.data.camera, seed=3, **options).tie(request, made)


def drawn(request: Any, side: int = 4) -> torch.Tensor:
    own = torch.zeros(len(request.image), 4, side, side)
    return request.noise.draw(own, filled=(1.0, 1.0))


def test_by_default_nothing_is_tied(views: Any) -> None:
    request = tied(views, ConsistencyConfig(), 0, 1)
    assert (request.noise, request.sharing) == (None, None)


def test_views_of_a_sweep_have_one_seed_and_sweeps_have_others(views: Any) -> None:
    request = tied(views, ANCHORED, 2, 3, 4)
    assert isinstance(request.noise, AnchoredNoise)
    third, fourth, fifth = request.noise.settings["seeds"]
    assert third == fourth != fifth
    # The first view of the second sweep is that of the first sweep, from the same place.
    assert not torch.allclose(drawn(tied(views, ANCHORED, 0)), drawn(tied(views, ANCHORED, 4)))


def test_noise_does_not_depend_on_the_batch_and_repeats(views: Any) -> None:
    both, alone = drawn(tied(views, ANCHORED, 0, 1)), drawn(tied(views, ANCHORED, 1))
    assert torch.equal(both[1:], alone)
    assert both.abs().min() > 0
    assert not torch.equal(drawn(tied(views, replace(ANCHORED, cell=0.9), 1)), alone)


def test_an_editor_that_inverts_gets_no_noise(views: Any) -> None:
    config = replace(ANCHORED, share_views="all")
    request = tied(views, config, 0, 1, draws_noise=False)
    assert request.noise is None
    assert request.sharing == config.sharing


def test_what_lies_at_the_far_plane_or_nowhere_keeps_its_own_noise(views: Any) -> None:
    assert (drawn(tied(views, ANCHORED, 0, far_plane=100.0)) != 0).all()
    assert (drawn(tied(views, ANCHORED, 0, far_plane=2.0)) == 0).all()
    unseen = views(0)
    unseen[0].points = None
    request = batch_request(unseen, Settings(instructions=RED), True)
    assert (drawn(ViewTies(ANCHORED, views.data.camera, seed=3).tie(request, unseen)) == 0).all()


def test_a_run_ties_the_views_of_each_batch(start: Any, paint: Any) -> None:
    editor = paint()
    config = ConsistencyConfig(noise="anchored", share_views="references", references=1)
    start(editor, edit_count=2, consistency=config).train()
    assert editor.requests
    for request in editor.requests:
        assert len(request.image) == 2
        assert request.sharing == config.sharing
        # What the scene shows has a place, whatever it looks like.
        assert (drawn(request) != 0).any()


def test_the_views_of_a_sweep_can_share_their_noise(start: Any, paint: Any) -> None:
    editor = paint()
    trainer = start(editor, edit_count=2, edit_rate=1, consistency=ConsistencyConfig(noise="shared"))
    trainer.train()
    seeds = [seed for request in editor.requests for seed in request.seeds]
    # Four views make a sweep, and two sweeps differ.
    assert len(seeds) >= 8
    assert len(set(seeds[:4])) == len(set(seeds[4:8])) == 1
    assert seeds[0] != seeds[4]
    assert [record.seed for record in trainer.session.records] == seeds


def test_a_session_goes_on_with_the_same_ties_only(config: Any) -> None:
    settings = [config(consistency=each).pipeline.session_settings(0) for each in (ConsistencyConfig(), ANCHORED)]
    first, second = (each["consistency"] for each in settings)
    assert first["noise"] == "independent"
    assert second["noise"] == "anchored"


@pytest.mark.slow
def test_a_broken_run_with_tied_views_resumes_to_the_same_edits(
    start: Any, config: Any, ip2p_folder: Path, tmp_path: Path
) -> None:
    chosen = IP2PConfig(size=16, steps=2, sampler="ddim")
    editor_config = SceneEditorConfig(model=str(ip2p_folder), device="cpu", name="ip2p", ip2p=chosen)
    backbone = editor_config.load_backbone()
    ties = ConsistencyConfig(noise="anchored", share_views="all")

    def run(folder: Path, stop_at: int = 0) -> Any:
        editor: Any = editor_config.make(backbone)
        edit, made = editor.edit, []

        def stop(request: Any) -> Any:
            made.append(request)
            if len(made) == stop_at:
                raise KeyboardInterrupt
            return edit(request)

        editor.edit = stop
        trainer = start(editor, config=config(folder, editor=editor_config, edit_count=2, consistency=ties))
        with pytest.raises(KeyboardInterrupt) if stop_at else nullcontext():
            trainer.train()
        return trainer

    whole = run(tmp_path / "whole")
    run(tmp_path / "broken", stop_at=3)
    resumed = run(tmp_path / "broken")
    pictures = [
        {path.name: path.read_bytes() for path in trainer.session.root.rglob("*.png")} for trainer in (whole, resumed)
    ]
    assert pictures[0]
    assert pictures[0] == pictures[1]
    settings = whole.session.records[0].trace["settings"]
    assert settings["noise"]["kind"] == "anchored"
    assert settings["sharing"]["among"] == "all"
