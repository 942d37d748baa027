"""The tiny checkpoints behave as the published ones: diffusers' own pipelines load and run them."""

from pathlib import Path

import torch
from diffusers import DiffusionPipeline, StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline


def _cross_sites(pipeline: DiffusionPipeline) -> set[str]:
    return {name.split(".")[0] for name in pipeline.unet.attn_processors if "attn2" in name}


def test_ip2p_checkpoint_runs_in_diffusers(ip2p_folder: Path) -> None:
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(ip2p_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.config.in_channels == 8
    assert _cross_sites(pipeline) == {"down_blocks", "mid_block", "up_blocks"}
    generator = torch.Generator().manual_seed(0)
    image = pipeline(
        "make it blue", torch.rand(1, 3, 64, 64, generator=generator), 2, generator=generator, output_type="pt"
    )
    assert image.images.shape == (1, 3, 64, 64)
    assert image.images.std() > 0.01


def test_sd_checkpoint_runs_in_diffusers(sd_folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(sd_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.config.in_channels == 4
    generator = torch.Generator().manual_seed(0)
    image = pipeline("a cat", 64, 64, num_inference_steps=2, generator=generator, output_type="pt").images
    assert image.shape == (1, 3, 64, 64)


def test_tokenizer_survives_saving_and_spells_words(ip2p_folder: Path) -> None:
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(ip2p_folder, local_files_only=True)
    tokens = pipeline.tokenizer.convert_ids_to_tokens(pipeline.tokenizer("a cat").input_ids)
    assert tokens == ["<|startoftext|>", "a</w>", "c", "a", "t</w>", "<|endoftext|>"]


def test_both_checkpoints_differ_in_the_first_layer_only(ip2p_folder: Path, sd_folder: Path) -> None:
    ip2p = StableDiffusionInstructPix2PixPipeline.from_pretrained(ip2p_folder, local_files_only=True)
    sd = StableDiffusionPipeline.from_pretrained(sd_folder, local_files_only=True)
    assert ip2p.unet.num_parameters() - sd.unet.num_parameters() == 16 * 4 * 9
    assert ip2p.vae.num_parameters() == sd.vae.num_parameters()
