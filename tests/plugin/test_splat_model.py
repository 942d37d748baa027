"""splatfacto as a scene that is edited: whole runs on a plain rasteriser, exact resumption, a region held still.

The rasteriser is that of cpu_rasterizer.py; nothing here shows what gsplat's kernels do.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.pipelines.base_pipeline import VanillaPipeline

from maskedit.editors import InputError, ModelError
from maskedit.plugin.checkpoint import model_weights, read_checkpoint
from maskedit.plugin.model import MaskeditModel
from maskedit.plugin.scene import SceneModel
from maskedit.plugin.splat_model import MaskeditSplatModel
from maskedit.plugin.splat_protection import FrozenGaussians
from maskedit.plugin.start import RunStopped
from maskedit.plugin.trainer import MaskeditTrainer
from maskedit.plugin.votes import VoxelVotes

Start = Callable[..., MaskeditTrainer]


def checkpoints(trainer: MaskeditTrainer) -> dict[str, Any]:
    return read_checkpoint(max(trainer.checkpoint_dir.glob("*.ckpt")), "splatfacto")


def pictures(trainer: MaskeditTrainer) -> dict[str, str]:
    """Everything a session shows, by name."""
    assert trainer.session is not None
    return {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in sorted(trainer.session.root.rglob("*.png"))}


def same(first: Any, second: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def splat_model(trainer: MaskeditTrainer) -> MaskeditSplatModel:
    model = trainer.pipeline.model
    assert isinstance(model, MaskeditSplatModel)
    return model


@pytest.fixture(scope="module")
def unbroken(scene: Path, tmp_path_factory: pytest.TempPathFactory, paint: Any) -> Any:
    """The checkpoint and the pictures of a run that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        paint.rasterize_on_cpu(patch)
        patch.setattr("maskedit.plugin.options.check_editor_is_there", lambda *given, **options: None)
        trainer = MaskeditTrainer(paint.splat_config_of(scene, tmp_path_factory.mktemp("unbroken")))
        trainer.setup()
        assert trainer.pipeline.edits is not None
        trainer.pipeline.edits.use_editor(paint())
        trainer.train()
    return checkpoints(trainer), pictures(trainer)


def test_it_is_a_scene_that_can_be_edited(splats: Any) -> None:
    model = splats().pipeline.model.setup(scene_box=None, num_train_data=4, metadata={}, seed_points=None)
    assert isinstance(model, SceneModel)
    assert not [name for name in model.state_dict() if "lpips" in name]
    model.load_perceptual()


def test_a_run_sweeps_over_all_views_and_trains_on_each_at_once(start: Start, splats: Any, paint: Any) -> None:
    editor = paint()
    trainer = start(editor, config=splats())
    data, trained = trainer.pipeline.datamanager, []
    originals = [data.original(view) for view in range(4)]
    draw = data.next_train

    def watch(step: int) -> Any:
        camera, batch = draw(step)
        view = camera.metadata["cam_idx"]
        trained.append((step - 3, view, not torch.equal(batch["image"], originals[view] / 255)))
        return camera, batch

    data.next_train = watch
    before = splat_model(trainer).num_points
    trainer.train()
    assert trainer.session is not None
    records = trainer.session.records
    # 3 steps of reconstruction, then 8 edit steps with sweeps from step 0 and, cut off by the end, from step 6.
    assert [(r.step, r.view, r.sweep) for r in records] == [(i, i, 0) for i in range(4)] + [(6, 0, 1), (7, 1, 1)]
    assert all(0.7 <= r.noise_level <= 0.98 for r in records)
    in_sweeps = [each for each in trained if each[0] in (0, 1, 2, 3, 6, 7)]
    assert in_sweeps == [(r.step, r.view, True) for r in records]
    assert not [each for each in trained if each[0] < 0 and each[2]]
    for record in records[-4:]:
        assert torch.equal(data.shown(record.view), trainer.session.image_of(record))
        assert torch.equal(data.original(record.view), originals[record.view])
    # splatfacto densified in the middle of it, and the lineage has followed.
    model = splat_model(trainer)
    assert model.num_points != before
    assert len(model.lineage.numbers) == model.num_points
    assert checkpoints(trainer)["pipeline"]["_model.gauss_params.means"].shape == (model.num_points, 3)


@pytest.mark.parametrize("last", [2, 4, 5, 8])
def test_a_run_that_is_continued_equals_one_that_was_not_interrupted(
    start: Start, splats: Any, unbroken: Any, last: int
) -> None:
    config = splats()
    config.steps_per_save, config.max_num_iterations = 1, max(1, last - 2)
    trainer = start(config=config)
    if last == 2:
        # Killed at the first edit: only the checkpoint of the reconstruction is there.
        trainer.pipeline.edits.run_due = lambda step: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    else:
        trainer.train()
    assert checkpoints(trainer)["step"] == last
    again = start(config=splats())
    assert splat_model(again).num_points == len(checkpoints(trainer)["pipeline"]["_model.gauss_params.means"])
    again.train()
    state, shown = unbroken
    found = checkpoints(again)
    assert found["step"] == state["step"] == 10
    for part in ("pipeline", "optimizers", "schedulers", "maskedit"):
        assert same(found[part], state[part]), part
    assert pictures(again) == shown


def test_optimisers_know_the_gaussians_of_the_checkpoint(start: Start, splats: Any, tmp_path: Path) -> None:
    first = start(config=splats())
    first.train()
    config = splats(tmp_path / "next", reconstruct_steps=0)
    config.load_dir = first.checkpoint_dir
    config.pipeline.resume = False
    again = start(config=config)
    model = splat_model(again)
    assert model.num_points == splat_model(first).num_points != 40
    for name, value in model.gauss_params.items():
        optimizer = again.optimizers.optimizers[name]
        assert optimizer.param_groups[0]["params"][0] is value
        moments = optimizer.state[value]["exp_avg"]
        assert moments.shape == value.shape
        source = first.pipeline.model.gauss_params[name]
        assert torch.equal(moments, first.optimizers.optimizers[name].state[source]["exp_avg"])
    before = model.means.detach().clone()
    again.train()
    assert not torch.equal(model.means[:3], before[:3])


def test_views_are_edited_one_by_one_if_asked(start: Start, splats: Any) -> None:
    trainer = start(config=splats(schedule="views", edit_rate=3))
    trainer.train()
    assert trainer.session is not None
    assert [(r.step, r.view) for r in trainer.session.records] == [(0, 0), (3, 1), (6, 2)]


def region_votes(model: MaskeditSplatModel, trainer: MaskeditTrainer) -> Any:
    """Votes by which about half of the Gaussians may change."""
    votes = model.make_votes()
    mask = torch.zeros(16, 16)
    mask[:, :8] = 1
    for view in range(2):
        votes.add(trainer.pipeline.datamanager.camera(view), mask)
    return votes


def test_protected_gaussians_stay_to_the_last_bit(start: Start, splats: Any) -> None:
    trainer = start(config=splats(reconstruct_steps=4))
    model = splat_model(trainer)
    kept: dict[str, Any] = {}
    run_due = trainer.pipeline.carrier.run_due

    def protect(step: int) -> object:
        if step == 0:
            votes = region_votes(model, trainer)
            model.protect(votes)
            outside = votes.share() < 0.5
            kept["numbers"] = model.lineage.numbers[outside]
            kept["values"] = {name: value.detach()[outside].clone() for name, value in model.gauss_params.items()}
            kept["moments"] = {
                name: model.optimizers[name].state[value]["exp_avg"][outside].clone()
                for name, value in model.gauss_params.items()
            }
        return run_due(step)

    trainer.pipeline.carrier.run_due = protect
    before = set(model.lineage.numbers.tolist())
    trainer.train()
    now = model.lineage.numbers
    assert 5 < len(kept["numbers"]) < 35
    place = torch.tensor([now.tolist().index(number) for number in kept["numbers"].tolist()])
    for name, value in model.gauss_params.items():
        assert torch.equal(value[place], kept["values"][name]), name
        assert torch.equal(model.optimizers[name].state[value]["exp_avg"][place], kept["moments"][name]), name
    # Inside, Gaussians were born, died and moved.
    inside = torch.ones(len(now), dtype=torch.bool)
    inside[place] = False
    born = set(now.tolist()) - before
    assert born and not born & set(kept["numbers"].tolist())
    assert before - set(now.tolist())
    assert inside.any() and all(optimizer.state for optimizer in model.optimizers.values())


@pytest.mark.parametrize("is_protected", [False, True])
def test_a_run_that_has_densified_can_be_reset_and_protected_anew(
    start: Start, splats: Any, is_protected: bool
) -> None:
    trainer = start(config=splats())
    model, run_due, counts, regions = splat_model(trainer), trainer.pipeline.carrier.run_due, [], []

    def watch(step: int) -> object:
        if step == 0:
            counts.append(model.num_points)
            regions.append(model.training_state()["region"])
            model.protect(region_votes(model, trainer) if is_protected else None)
        if step == 4 and trainer.session is not None and trainer.session.generation == 0:
            counts.append(model.num_points)
            trainer.requests.put(trainer.reset)
        return run_due(step)

    trainer.pipeline.carrier.run_due = watch
    trainer.train()
    assert trainer.session is not None and trainer.session.generation == 1
    first, densified, again = counts
    assert first == again != densified
    assert regions == [None, None]
    before = read_checkpoint(trainer.session.start_checkpoint, "splatfacto")["pipeline"]["_model.gauss_params.means"]
    was_there = (model.means.detach()[:, None] == before).all(dim=-1).any(dim=-1)
    region = model.training_state()["region"]
    if is_protected:
        assert region.any() and not region.all()
        assert was_there[~region].all() and not was_there[region].any()
    else:
        assert region is None and not was_there.any()


def test_it_moves_to_another_device_with_its_lineage(splats: Any) -> None:
    model = splats().pipeline.model.setup(scene_box=None, num_train_data=4, metadata={}, seed_points=None)
    model.to("meta")
    assert model.means.is_meta and model.lineage.numbers.is_meta


def test_what_is_protected_is_put_back_once_a_step(start: Start, splats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    put_back = FrozenGaussians.put_back

    def count(self: FrozenGaussians, *given: Any) -> None:
        calls.append(1)
        put_back(self, *given)

    monkeypatch.setattr(FrozenGaussians, "put_back", count)
    trainer = start(config=splats())
    model, run_due = splat_model(trainer), trainer.pipeline.carrier.run_due

    def protect(step: int) -> object:
        if step == 0:
            model.protect(region_votes(model, trainer))
        return run_due(step)

    trainer.pipeline.carrier.run_due = protect
    trainer.train()
    assert len(calls) == 8


def upper_half(editor: Any) -> Any:
    """An editor that finds the upper half of every photo, which all cameras of the toy scene agree on."""

    def find(request: Any) -> tuple[torch.Tensor, ...]:
        mask = torch.zeros_like(request.image[:, :1])
        mask[..., : mask.shape[-2] // 2, :] = 1
        return tuple(mask if each.mask is None else each.mask for each in request.instructions)

    editor.find_masks = find
    return editor


def test_masks_are_lifted_through_gaussians_and_the_rest_is_held(
    start: Start, splats: Any, paint: Any, tmp_path: Path
) -> None:
    def build(folder: Path, steps: int = 8) -> MaskeditTrainer:
        config = splats(folder, masks="lifted", protect=True)
        # Small ones, so that few lie on both sides.
        config.pipeline.model.num_random, config.pipeline.model.random_scale = 150, 1.2
        config.max_num_iterations = steps
        return start(upper_half(paint()), config=config)

    whole = build(tmp_path / "whole")
    whole.train()
    assert whole.session is not None
    assert all(record.masks and record.image for record in whole.session.records)
    region, means = splat_model(whole).training_state()["region"], splat_model(whole).means.detach()
    assert region.any() and not region.all()
    assert means[region, 2].mean() > means[~region, 2].mean()
    before = read_checkpoint(whole.session.start_checkpoint, "splatfacto")["pipeline"]["_model.gauss_params.means"]
    was_there = (means[:, None] == before).all(dim=-1).any(dim=-1)
    assert was_there[~region].all() and not was_there[region].any()
    build(tmp_path / "parts", steps=5).train()
    parts = build(tmp_path / "parts")
    parts.train()
    first, second = checkpoints(whole), checkpoints(parts)
    for part in ("pipeline", "optimizers", "maskedit"):
        assert same(first[part], second[part]), part
    assert pictures(parts) == pictures(whole)


def test_the_region_is_part_of_the_checkpoint(start: Start, splats: Any) -> None:
    trainer = start(config=splats())
    model = splat_model(trainer)
    votes = region_votes(model, trainer)
    model.protect(votes)
    state = model.training_state()
    assert torch.equal(state["region"], votes.share() >= 0.5)
    model.protect(None)
    assert model.training_state()["region"] is None
    model.restore_training_state(7, state)
    assert torch.equal(model.training_state()["region"], state["region"])
    assert model.step == 7
    with pytest.raises(InputError, match="votes of Gaussians, got VoxelVotes"):
        model.protect(VoxelVotes(lambda camera: iter(()), device="cpu", resolution=8))


def test_points_lie_where_the_gaussians_are(start: Start, splats: Any) -> None:
    trainer = start(config=splats())
    model = splat_model(trainer)
    # One opaque wall of Gaussians before the first camera, at the origin: x is 0 everywhere.
    model.gauss_params["means"].data = torch.cat([torch.zeros(40, 1), torch.randn(40, 2) * 0.3], dim=-1)
    model.gauss_params["scales"].data = torch.log(torch.tensor([0.01, 0.05, 0.05])).repeat(40, 1)
    model.gauss_params["quats"].data = torch.tensor([1.0, 0, 0, 0]).repeat(40, 1)
    camera = trainer.pipeline.datamanager.camera(0)
    model.eval()
    outputs = model.get_outputs_for_camera(camera)
    points = model.surface_points(camera, outputs)
    seen = outputs["accumulation"][..., 0] > 0
    assert points.shape == (16, 16, 3)
    assert seen.any() and not seen.all()
    assert torch.isnan(points[~seen]).all()
    origin, axis = camera.camera_to_worlds[0, :, 3], -camera.camera_to_worlds[0, :, 2]
    depth = (points[seen] - origin) @ axis
    torch.testing.assert_close(depth, torch.full_like(depth, float(origin.norm())), rtol=0.05, atol=0)
    render = trainer.pipeline.renderer.render(0)
    torch.testing.assert_close(render.points, points, equal_nan=True)
    assert render.image.shape == (1, 3, 16, 16)


def test_evaluation_fetches_nothing_and_loads_no_editor(start: Start, splats: Any) -> None:
    trainer = start(config=splats())
    metrics, images = trainer.pipeline.get_eval_image_metrics_and_images(0)
    assert {"psnr", "ssim"} <= metrics.keys() and "lpips" not in metrics
    assert images["img"].shape[-1] == 3
    config = splats().pipeline
    pipeline = config.setup(device="cpu", test_mode="inference", world_size=1, local_rank=0, grad_scaler=None)
    assert isinstance(pipeline, VanillaPipeline)
    assert pipeline.edits is None


def test_scenes_of_the_other_kind_are_named(start: Start, splats: Any, config: Any, tmp_path: Path) -> None:
    splat, nerf = start(config=splats(tmp_path / "a")), start(config=config(tmp_path / "b"))
    for trainer in (splat, nerf):
        trainer.save_checkpoint(0)
    wrong = splats(tmp_path / "c", reconstruct_steps=0)
    wrong.load_dir = nerf.checkpoint_dir
    with pytest.raises(RunStopped, match=r"is a nerfacto scene and this method edits splatfacto.*`ns-train maskedit`"):
        start(config=wrong)
    wrong = config(tmp_path / "d", reconstruct_steps=0)
    wrong.load_dir = splat.checkpoint_dir
    with pytest.raises(RunStopped, match=r"is a splatfacto scene and this method edits nerfacto.*maskedit-splat`"):
        start(config=wrong)
    assert isinstance(nerf.pipeline.scene_model, MaskeditModel)


def test_weights_of_any_number_of_gaussians_fit(splats: Any) -> None:
    model = splats().pipeline.model.setup(scene_box=None, num_train_data=4, metadata={}, seed_points=None)
    expected = {f"_model.{name}": value for name, value in model.state_dict().items()}
    stored = {name: value[:7] if "gauss_params" in name else value for name, value in expected.items()}
    # Older checkpoints name the Gaussians' tensors without their dictionary.
    older = {name.replace("gauss_params.", ""): value for name, value in stored.items()}
    for each in (stored, older):
        assert model_weights(Path("c"), each, expected).keys() == expected.keys()
        model.load_state_dict({name.removeprefix("_model."): value for name, value in each.items()}, strict=True)
        assert model.num_points == 7 and len(model.lineage.numbers) == 7
    torn = {**stored, "_model.gauss_params.quats": torch.zeros(8, 4)}
    with pytest.raises(ModelError, match=r"of \[7, 8\] Gaussians"):
        model_weights(Path("c"), torn, expected)
    other = {**stored, "_model.gauss_params.features_rest": torch.zeros(7, 15, 3)}
    with pytest.raises(ModelError, match=r"has shape \(7, 15, 3\), this model needs \(7, 3, 3\)"):
        model_weights(Path("c"), other, expected)
