"""An exported set is a checkpoint for diffusers and for maskedit alike."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
)
from safetensors import safe_open

from maskedit.bench.blocks import make_pairs, vocabulary
from maskedit.bench.embedded.editor import EditorModel, EditorRecipe
from maskedit.bench.embedded.export import (
    EMBEDDED_PRESET,
    INPAINTING_PRESET,
    PART_FOLDERS,
    TEXT_TO_IMAGE_PRESET,
    export_part,
    export_set,
    install_part,
)
from maskedit.bench.embedded.llava import LlavaRecipe, TrainedLlava, build_llava, talk_vocabulary
from maskedit.bench.embedded.text_to_image import TextToImageRecipe, TrainedText, build_text_model
from maskedit.bench.embedded.tokenizer import build_tokenizer
from maskedit.bench.embedded.train import PARTS, TrainedSet
from maskedit.bench.embedded.vae import VAERecipe, build_vae
from maskedit.bench.embedded.views import ViewsRecipe
from maskedit.editors import (
    Backbone,
    BackboneConfig,
    CheckpointPreset,
    EditRequest,
    FoIPreset,
    Instruction,
    InstructPreset,
    IP2PConfig,
    make_editor,
)

TEXT = "make the red cube blue"


@pytest.fixture(scope="module")
def trained() -> TrainedSet:
    tokenizer = build_tokenizer(vocabulary(), length=24)
    recipe = EditorRecipe(block_out_channels=(16, 32), text_width=32, text_layers=1, text_length=24)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = build_vae(VAERecipe(block_out_channels=(16, 16), image_size=16))
        model = EditorModel(recipe, vocabulary=len(tokenizer), channels=4, size=8)
    return TrainedSet(vae=vae.eval(), model=model.eval(), tokenizer=tokenizer, step=0)


@pytest.fixture(scope="module")
def folder(trained: TrainedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("set") / "deep" / "export"
    export_set(trained, path)
    return path


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(folder), device="cpu"))


def test_every_weight_is_stored_in_half_precision_safetensors(folder: Path):
    files = sorted(folder.rglob("*.safetensors"))
    assert [file.parent.name for file in files] == ["text_encoder", "unet", "vae"]
    for file in files:
        with safe_open(file, framework="pt") as stored:
            assert {stored.get_slice(name).get_dtype() for name in stored.keys()} <= {"F16", "I64"}  # noqa: SIM118
    assert not [*folder.rglob("*.bin")]


def test_the_backbone_holds_the_trained_weights_and_settings(backbone: Backbone, trained: TrainedSet):
    networks = {"unet": trained.model.unet, "vae": trained.vae, "text_encoder": trained.model.text_encoder}
    for name, network in networks.items():
        loaded = getattr(backbone, name).state_dict()
        assert loaded.keys() == network.state_dict().keys()
        for key, value in network.state_dict().items():
            torch.testing.assert_close(loaded[key], value, atol=1e-6, rtol=1e-3)
    assert backbone.native_size == 16
    assert backbone.scheduler_config["prediction_type"] == "v_prediction"
    assert backbone.tokenizer(TEXT).input_ids == trained.tokenizer(TEXT).input_ids
    assert backbone.preset == EMBEDDED_PRESET


def test_a_preset_is_read_back_equal(trained: TrainedSet, tmp_path: Path):
    preset = CheckpointPreset(
        instruct=InstructPreset(sampler="ddim", steps=7),
        foi=FoIPreset(mask_stages=("down", "up"), mask_threshold=0.25),
        knows="nothing",
    )
    export_set(trained, tmp_path, preset=preset)
    assert Backbone.load(BackboneConfig(model=str(tmp_path), device="cpu")).preset == preset


def test_the_set_itself_is_left_in_full_precision(trained: TrainedSet, folder: Path):
    for network in (trained.model, trained.vae):
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_exporting_again_writes_the_same_bytes(trained: TrainedSet, folder: Path, tmp_path: Path):
    for _ in range(2):
        export_set(trained, tmp_path)
        for file in (path for path in folder.rglob("*") if path.is_file()):
            assert (tmp_path / file.relative_to(folder)).read_bytes() == file.read_bytes(), file.name


def test_nothing_in_the_folder_tells_where_it_was_made(trained: TrainedSet, folder: Path, tmp_path: Path):
    loaded = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32)
    export_set(replace(trained, vae=loaded), tmp_path / "again")
    for file in (*folder.rglob("*.json"), *(tmp_path / "again").rglob("*.json")):
        text = file.read_text()
        json.loads(text)
        assert str(folder.parent) not in text
        assert "_name_or_path" not in text


def test_diffusers_own_pipeline_edits_as_ours_does(folder: Path, backbone: Backbone):
    image = make_pairs("test", [0], height=16).source
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        TEXT,
        image=image,
        num_inference_steps=3,
        guidance_scale=EMBEDDED_PRESET.instruct.guidance_scale,
        image_guidance_scale=EMBEDDED_PRESET.instruct.image_guidance_scale,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    request = EditRequest(image=image, instructions=(Instruction(text=TEXT, keyword="red cube"),), seeds=(0,))
    ours = make_editor(IP2PConfig(steps=3), backbone).edit(request).image
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), theirs, atol=2e-3)


def captioned(trained: TrainedSet, *, condition_channels: int) -> TrainedText:
    recipe = TextToImageRecipe(
        block_out_channels=(16, 32), text_width=32, text_layers=1, text_length=24, views=ViewsRecipe(image_size=16)
    )
    tokenizer, model = build_text_model(recipe, trained.vae, "cpu", condition_channels=condition_channels)
    return TrainedText(vae=trained.vae, model=model.eval(), tokenizer=tokenizer, recipe=recipe, step=0)


def test_diffusers_own_pipeline_draws_from_the_text_to_image_part(trained: TrainedSet, tmp_path: Path):
    place = export_part("text-to-image", captioned(trained, condition_channels=0), tmp_path)
    assert place == tmp_path / "text-to-image"
    pipeline = StableDiffusionPipeline.from_pretrained(place)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("photo of a red cube", num_inference_steps=2, output_type="np").images
    assert picture.shape == (1, 16, 16, 3)
    assert np.isfinite(picture).all()
    assert Backbone.load(BackboneConfig(model=str(place), device="cpu")).preset == TEXT_TO_IMAGE_PRESET


def test_diffusers_own_pipeline_paints_with_the_inpainting_part(trained: TrainedSet, tmp_path: Path):
    place = export_part("inpainting", captioned(trained, condition_channels=5), tmp_path)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(place)
    pipeline.set_progress_bar_config(disable=True)
    image, mask = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1
    painted = pipeline(
        "a red cube", image=image, mask_image=mask, height=16, width=16, num_inference_steps=2, output_type="np"
    ).images
    assert painted.shape == (1, 16, 16, 3)
    assert np.isfinite(painted).all()
    assert Backbone.load(BackboneConfig(model=str(place), device="cpu")).preset == INPAINTING_PRESET


def test_each_part_has_a_folder_of_its_own(trained: TrainedSet, tmp_path: Path):
    assert set(PART_FOLDERS) == set(PARTS)
    assert len(set(PART_FOLDERS.values())) == len(PARTS)
    place = export_part("instruct", trained, tmp_path)
    assert (place.name, Backbone.load(BackboneConfig(model=str(place), device="cpu")).preset) == (
        "instruct-pix2pix",
        EMBEDDED_PRESET,
    )


def test_what_has_the_editors_autoencoder_is_installed_without_it(trained: TrainedSet, tmp_path: Path):
    assert install_part("instruct", trained, tmp_path) == tmp_path / "instruct-pix2pix"
    assert (tmp_path / "instruct-pix2pix" / "vae").is_dir()
    text = captioned(trained, condition_channels=0)
    place = install_part("text-to-image", text, tmp_path)
    assert place is not None
    assert not (place / "vae").exists()
    loaded = Backbone.load(BackboneConfig(model=str(place), device="cpu"), "text-to-image")
    whole = Backbone.load(BackboneConfig(model=str(export_part("text-to-image", text, tmp_path / "whole"))))
    assert loaded.preset == replace(whole.preset, base="../instruct-pix2pix")
    for name, value in whole.vae.state_dict().items():
        assert torch.equal(value, loaded.vae.state_dict()[name])


def test_the_llava_comes_with_what_stands_on_it(tmp_path: Path):
    tokenizer = build_tokenizer(talk_vocabulary(), length=32)
    recipe = LlavaRecipe(width=16, layers=1, heads=2, feed_forward=16)
    llava = TrainedLlava(model=build_llava(recipe, tokenizer), tokenizer=tokenizer, step=0)
    assert install_part("llava", llava, tmp_path) is None
    assert not list(tmp_path.iterdir())
    assert export_part("llava", llava, tmp_path) == tmp_path / "llava"
