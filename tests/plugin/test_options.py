"""What a run is asked for: settings that are checked before anything is loaded, and kept in the session."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskedit.editors import (
    FoIConfig,
    InputError,
    InstructBrushConfig,
    InstructEditConfig,
    LanguageConfig,
    ModelError,
    SmartEditConfig,
    load_brush,
)
from maskedit.plugin.consistency import ConsistencyConfig
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.lift_options import LiftConfig, ProtectConfig
from maskedit.plugin.options import MaskeditPipelineConfig
from maskedit.plugin.splat_options import SplatEditorConfig
from maskedit.plugin.start import RunStopped


def test_settings_that_cannot_work_are_refused(config: Any, ip2p_folder: Path) -> None:
    with pytest.raises(InputError, match=r"pipeline.instructions"):
        MaskeditPipelineConfig().check()
    pipeline = config().pipeline
    pipeline.editor = SceneEditorConfig(model="nowhere")
    with pytest.raises(ModelError, match="nowhere"):
        pipeline.check()
    editor = SceneEditorConfig(model=str(ip2p_folder))
    config(reconstruct_steps=0, editor=editor).pipeline.check()
    pipeline = config(lower_bound=0.01, reconstruct_steps=0, editor=editor).pipeline
    with pytest.raises(InputError, match=r"--pipeline.lower-bound 0.02"):
        pipeline.check()
    pipeline = config(reconstruct_steps=0, editor=editor).pipeline
    pipeline.model.use_lpips = True
    with pytest.raises(InputError, match="patch-size is 1"):
        pipeline.check()


def test_the_noise_levels_must_suit_the_sampler(config: Any, ip2p_folder: Path) -> None:
    def check(sampler: Any, **options: Any) -> None:
        editor = SceneEditorConfig(model=str(ip2p_folder), foi=FoIConfig(sampler=sampler, steps=20))
        config(editor=editor, reconstruct_steps=0, **options).pipeline.check()

    check("euler_ancestral", lower_bound=0.01)
    check("euler_ancestral", edit_count=3, lower_bound=0.5, upper_bound=0.5)
    check("ddim", edit_count=3)
    with pytest.raises(InputError, match=r"--pipeline.editor.foi.sampler ddim or --pipeline.edit-count 1"):
        check("euler_ancestral", edit_count=3)


def test_editors_that_invert_the_picture_need_no_noise_levels(config: Any, captioned: Any) -> None:
    for name in ("instructedit", "diffedit", "mdp"):
        editor, *_ = captioned(name, steps=50)
        config(editor=editor, reconstruct_steps=0, lower_bound=0.01, edit_count=3).pipeline.check()
    editor, *_ = captioned(steps=None, encoding_ratio=0.01)
    with pytest.raises(InputError, match=r"--pipeline.editor.instructedit.encoding-ratio 0.02 or more"):
        config(editor=editor, reconstruct_steps=0).pipeline.check()


def test_inpainting_draws_noise_levels(config: Any, inpainting_folder: Path) -> None:
    editor = SceneEditorConfig(model=str(inpainting_folder), name="inpaint")
    config(editor=editor, reconstruct_steps=0).pipeline.check()
    with pytest.raises(InputError, match=r"--pipeline.lower-bound 0.02"):
        config(editor=editor, reconstruct_steps=0, lower_bound=0.01).pipeline.check()


def test_settings_of_a_session_hold_no_key(config: Any, sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    options = InstructEditConfig(language=LanguageConfig(provider="openai", base_url="http://127.0.0.1:1/v1"))
    editor = SceneEditorConfig(model=str(sd_folder), name="instructedit", instructedit=options)
    settings = config(editor=editor).pipeline.session_settings(0)
    assert settings["editor options"]["language"]["provider"] == "openai"
    assert settings["editor options"]["language"]["api_key_variable"] == "OPENAI_API_KEY"
    assert "sk-secret" not in json.dumps(settings, default=str)


def test_a_session_belongs_to_what_a_brush_holds(
    config: Any, ip2p_folder: Path, brush_file: Path, tmp_path: Path
) -> None:
    """Another brush in the same file is another setting."""
    file = tmp_path / "stroke.safetensors"
    marks: list[Any] = []
    for changes in (0, 0, 1):
        brush = load_brush(brush_file)
        for rows in brush.tensors.values():
            rows.add_(changes)
        options = InstructBrushConfig(brush=brush.save(file))
        editor = SceneEditorConfig(model=str(ip2p_folder), name="instructbrush", instructbrush=options)
        marks.append(config(editor=editor).pipeline.session_settings(0)["brush"])
    assert marks[0] == marks[1] != marks[2]


def test_a_brush_is_the_instruction_where_there_is_none_in_words(
    config: Any, ip2p_folder: Path, brush_file: Path
) -> None:
    options = InstructBrushConfig(brush=brush_file)
    editor = SceneEditorConfig(model=str(ip2p_folder), name="instructbrush", instructbrush=options)
    alone = config(editor=editor, instructions=()).pipeline.read_instructions()
    assert [each.text for each in alone] == [brush_file.stem]
    beside = config(editor=editor, instructions=("make it red",)).pipeline.read_instructions()
    assert [each.text for each in beside] == ["make it red"]
    with pytest.raises(InputError, match="expected an instruction, got none"):
        config(instructions=()).pipeline.read_instructions()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edit_count": 0}, "edit-count"),
        ({"dry_run": -1}, "dry-run"),
        ({"reconstruct_steps": -1}, "reconstruct-steps"),
        ({"instructions": ("a", "b"), "keywords": ("a",)}, "one of keywords"),
        ({"instructions": ("make it red",), "strengths": (99.0,)}, "strength"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskeditPipelineConfig(**options)


ANCHORED, TIED = ConsistencyConfig(noise="anchored"), ConsistencyConfig(share_views="references")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lift": LiftConfig(rounds=3)}, r"pipeline.lift.rounds is given .* pass --pipeline.masks lifted or leave"),
        (
            {"protection": ProtectConfig(margin=3)},
            r"pipeline.protection.margin is given .* pass --pipeline.protect True",
        ),
        (
            {"consistency": ConsistencyConfig(cell=0.5)},
            r"consistency.cell is given .* --pipeline.consistency.noise anch",
        ),
        (
            {"consistency": replace(TIED, share_views="all", references=2), "edit_count": 2},
            r"references is given .*share-views refer",
        ),
        ({"consistency": ConsistencyConfig(own_share=0.5)}, r"own-share is given .*share-views references"),
    ],
)
def test_flags_that_nothing_would_read_are_refused(
    config: Any, ip2p_folder: Path, options: dict[str, Any], message: str
) -> None:
    editor = SceneEditorConfig(model=str(ip2p_folder))
    with pytest.raises(InputError, match=message) as refused:
        config(editor=editor, reconstruct_steps=0, **options).pipeline.check()
    assert "\n" not in str(refused.value)


def test_flags_with_their_switch_are_taken(config: Any, ip2p_folder: Path) -> None:
    given: dict[str, Any] = {"editor": SceneEditorConfig(model=str(ip2p_folder)), "reconstruct_steps": 0}
    lifted = {"masks": "lifted", "lift": LiftConfig(rounds=3)}
    config(**given, **lifted, protect=True, protection=ProtectConfig(margin=3)).pipeline.check()
    config(**given, consistency=replace(ANCHORED, cell=0.5)).pipeline.check()
    config(**given, edit_count=2, consistency=replace(TIED, references=2, own_share=0.5)).pipeline.check()
    config(**given, edit_count=2, consistency=replace(TIED, share_views="all", own_share=0.5)).pipeline.check()


def test_how_firmly_is_not_asked_for_gaussians(splats: Any, ip2p_folder: Path) -> None:
    given = {"masks": "lifted", "protect": True, "protection": ProtectConfig(margin=3), "reconstruct_steps": 0}
    with pytest.raises(InputError, match=r"protection.margin is read for nerfacto scenes alone"):
        splats(editor=SplatEditorConfig(model=str(ip2p_folder)), **given).pipeline.check()


def test_what_decides_a_result_must_be_the_same_to_go_on(start: Any, config: Any, tmp_path: Path) -> None:
    def given(**changes: Any) -> Any:
        made = config()
        made.pipeline.datamanager.train_num_images_to_sample_from = 2
        made.max_num_iterations = 2
        for place, value in changes.items():
            owner, _, name = place.rpartition("__")
            setattr({"": made, "model": made.pipeline.model, "data": made.pipeline.datamanager}[owner], name, value)
        return made

    first = start(config=given())
    first.train()
    views = first.pipeline.datamanager.views
    others = (start_views(given, seed) for seed in range(1, 20))
    seed = next(seed for seed, drawn in enumerate(others, start=1) if drawn != views)
    with pytest.raises(RunStopped, match=r"began with photo names: \d = '\d.png', this command has '\d.png'"):
        start(config=given(data__subset_seed=seed))
    with pytest.raises(RunStopped, match=r"mixed precision = True, this command has False"):
        start(config=given(mixed_precision=False))
    with pytest.raises(RunStopped, match=r"model options: distortion_loss_mult = 0.002, this command has 0.1"):
        start(config=given(model__distortion_loss_mult=0.1))
    with pytest.raises(RunStopped, match=r"lpips weight = 1.0, this command has 0.5"):
        start(config=given(model__lpips_loss_mult=0.5))
    # Rendering in smaller pieces changes nothing, and a session of an older version knows none of these.
    start(config=given(model__eval_num_rays_per_chunk=512))
    path = first.session.root / "session.json"
    stored = json.loads(path.read_text())
    for name in ("photo names", "mixed precision", "model options", "lpips weight"):
        del stored["settings"][name]
    path.write_text(json.dumps(stored))
    start(config=given(model__distortion_loss_mult=0.1, model__lpips_loss_mult=0.5, mixed_precision=False))


def start_views(given: Any, seed: int) -> tuple[int, ...]:
    """The photos that a seed draws."""
    data = given(data__subset_seed=seed).pipeline.datamanager
    return data.setup(device="cpu", test_mode="val", world_size=1, local_rank=0).views


def test_a_session_belongs_to_the_language_model_wherever_it_runs(
    config: Any, smartedit_checkpoint: Path, tmp_path: Path
) -> None:
    folder, llava = tmp_path / "smart", tmp_path / "llava"
    shutil.copytree(smartedit_checkpoint, folder)
    shutil.move(folder / "mllm", llava)
    description = folder / "smartedit" / "config.json"
    description.write_text(description.read_text().replace('"mllm": "mllm"', '"mllm": "../llava"'))

    def settings(device: str | None = None) -> dict[str, Any]:
        options = SmartEditConfig(mllm_device=device, sampler="ddim", steps=20)
        editor = SceneEditorConfig(model=str(folder), name="smartedit", smartedit=options)
        return config(editor=editor).pipeline.session_settings(0)

    before = settings()
    assert before["language model"]
    assert settings("cpu") == before
    weights = llava / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    after = settings()
    assert {name for name in before if before[name] != after[name]} == {"language model"}
