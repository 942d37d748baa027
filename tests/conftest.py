"""Shared by all tests: threads, offline mode, markers, tolerances, real inputs and tiny random checkpoints."""

import os
import runpy
import string

# Before torch is imported: more threads than cores make it many times slower, and tests never reach for the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; no test carries a `skipif` of its own."""
    lacking = {}
    if not torch.cuda.is_available():
        lacking["gpu"] = "needs a CUDA device"
    if not os.environ.get("MASKEDIT_WEIGHTS"):
        lacking["weights"] = "needs real checkpoints: set MASKEDIT_WEIGHTS to their folder"
    for item in items:
        for marker, reason in lacking.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far two results of the same computation may differ; `**vars(t)` suits `torch.testing.assert_close`."""

    atol: float
    rtol: float


TOLERANCES = {
    torch.float64: Tolerance(atol=1e-9, rtol=1e-7),
    torch.float32: Tolerance(atol=2e-5, rtol=1e-4),
    torch.float16: Tolerance(atol=2e-3, rtol=1e-2),
    torch.bfloat16: Tolerance(atol=2e-2, rtol=5e-2),
}


@pytest.fixture(scope="session")
def tolerance() -> Callable[[torch.dtype], Tolerance]:
    """The tolerance of a dtype."""
    return TOLERANCES.__getitem__


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real photos, scenes and clips: MASKEDIT_REAL, or `shared/real` beside the repository."""
    folder = Path(os.environ.get("MASKEDIT_REAL") or ROOT.parent / "shared" / "real")
    if not folder.is_dir():
        pytest.skip("needs real inputs: set MASKEDIT_REAL to their folder")
    return folder


@pytest.fixture(scope="session")
def weights_folder() -> Path:
    """Folder of real checkpoints; only for tests marked `weights`."""
    return Path(os.environ["MASKEDIT_WEIGHTS"])


@pytest.fixture(scope="session")
def ip2p_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random InstructPix2Pix checkpoint on disk: 64 pixels, 16 x 16 latents, cross-attention at 16, 8, 4 and 2.

    Do not write into it; copy it first.
    """
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline

    pipeline = StableDiffusionInstructPix2PixPipeline(
        **_tiny_models(unet_in_channels=8),
        scheduler=EulerAncestralDiscreteScheduler(**_TRAINING_NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipeline, tmp_path_factory.mktemp("ip2p"))


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Stable Diffusion checkpoint on disk (4 input channels), otherwise like `ip2p_folder`."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        **_tiny_models(unet_in_channels=4),
        scheduler=PNDMScheduler(**_TRAINING_NOISE, skip_prk_steps=True, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipeline, tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="session")
def inpainting_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random inpainting checkpoint on disk (9 input channels), otherwise like `sd_folder`."""
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

    pipeline = StableDiffusionInpaintPipeline(
        **_tiny_models(unet_in_channels=9),
        scheduler=DDIMScheduler(**_TRAINING_NOISE, set_alpha_to_one=False, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipeline, tmp_path_factory.mktemp("inpainting"))


# The published checkpoints of all families were trained with this noise.
_TRAINING_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


def _save(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _tiny_models(*, unet_in_channels: int) -> dict[str, Any]:
    """Random models of the real classes, a few hundred thousand parameters, the same on every run."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    tokenizer = _byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=unet_in_channels,
            block_out_channels=(16, 32, 32, 32),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=32,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            sample_size=64,
            block_out_channels=(8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
        )
        text_encoder = CLIPTextModel(_text_config(tokenizer))
    return {"unet": unet, "vae": vae, "text_encoder": text_encoder, "tokenizer": tokenizer}


def _text_config(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _byte_tokenizer() -> Any:
    """CLIP's tokenizer without merges: each byte is a token, so that 75 characters fit."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)


@pytest.fixture(scope="session")
def clipseg_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIPSeg on disk: 64 pixels; its probabilities lie around 0.5 and depend on the phrase."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, ViTImageProcessor

    tokenizer = _byte_tokenizer()
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = CLIPSegConfig(
        text_config={**_text_config(tokenizer).to_dict(), "model_type": "clipseg_text_model"},
        vision_config={**layers, "num_hidden_layers": 3, "image_size": 64, "patch_size": 8},
        projection_dim=32,
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        extract_layers=[0, 1, 2],
        # In the last layer the phrase outweighs what random layers make of the picture.
        conditional_layer=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CLIPSegForImageSegmentation(config)
    network.get_parameter("decoder.transposed_convolution.weight").data.mul_(0.1)
    processor = CLIPSegProcessor(ViTImageProcessor(size={"height": 64, "width": 64}), tokenizer)
    return _save_pretrained(network, processor, tmp_path_factory.mktemp("clipseg"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP on disk, of 64 pixels."""
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, ViTImageProcessor

    tokenizer = _byte_tokenizer()
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    config = CLIPConfig(
        text_config=_text_config(tokenizer).to_dict(),
        vision_config={**layers, "image_size": 64, "patch_size": 8},
        projection_dim=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CLIPModel(config)
    processor = CLIPProcessor(ViTImageProcessor(size={"height": 64, "width": 64}), tokenizer)
    return _save_pretrained(network, processor, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def grounding_dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random GroundingDINO on disk: 20 queries, 16 tokens, a vocabulary of a few words, scores of all sizes."""
    from transformers import (
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *". , a the left red cube sphere dogs".split()]
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "image_size": 64,
            "embed_dim": 16,
            "depths": [1, 1, 1, 1],
            "num_heads": [2, 2, 2, 2],
            "window_size": 4,
            "out_features": ["stage2", "stage3", "stage4"],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
        },
        d_model=64,
        num_queries=20,
        max_text_len=16,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = GroundingDinoForObjectDetection(config)
    # Random products of 64 numbers would make every score 0 or 1.
    network.get_parameter("model.decoder.layer_norm.weight").data.mul_(0.1)
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}),
        BertTokenizer(vocab={word: i for i, word in enumerate(words)}),
    )
    return _save_pretrained(network, processor, tmp_path_factory.mktemp("grounding-dino"))


@pytest.fixture(scope="session")
def sam_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random SAM on disk: 64 pixels, one block with windows of 3 cells and one without."""
    from safetensors.torch import save_file
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Sam(
            ImageEncoderViT(
                img_size=64,
                embed_dim=32,
                depth=2,
                num_heads=4,
                out_chans=32,
                use_rel_pos=True,
                window_size=3,
                global_attn_indexes=(1,),
            ),
            PromptEncoder(embed_dim=32, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_chans=16),
            MaskDecoder(
                transformer_dim=32,
                transformer=TwoWayTransformer(depth=2, embedding_dim=32, num_heads=8, mlp_dim=64),
                iou_head_hidden_dim=32,
            ),
        )
    path = tmp_path_factory.mktemp("sam") / "sam.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def blip2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BLIP-2 with a T5 on disk: 32 pixels; it says words that depend on the picture."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor, T5Tokenizer

    words = "photo painting drawing of a the red blue cube dog cat bench on with two".split()
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *(f"\u2581{word}" for word in words), *string.ascii_letters]
    tokenizer = T5Tokenizer(vocab=[(piece, -float(len(piece) == 1)) for piece in pieces], extra_ids=0)
    processor = Blip2Processor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer, num_query_tokens=4)
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Blip2Config(
        vision_config={**layers, "image_size": 32, "patch_size": 8},
        qformer_config={**layers, "vocab_size": 8},
        text_config={
            "model_type": "t5",
            "vocab_size": len(tokenizer),
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        },
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Blip2ForConditionalGeneration(config)
    # Words score above these, which end the answer or are left out of it.
    network.get_input_embeddings().weight.data[[0, 1, 2, 3, config.image_token_index]] = 0
    return _save_pretrained(network, processor, tmp_path_factory.mktemp("blip2"))


def _save_pretrained(network: Any, processor: Any, folder: Path) -> Path:
    from maskedit.editors.core.loading import quiet_loading

    with quiet_loading():
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def brush_file(ip2p_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brush for the tiny InstructPix2Pix before its first step, of three steps of DDIM."""
    from maskedit.editors import Backbone, BackboneConfig, BrushRecipe
    from maskedit.editors.parts.brush import Brush
    from maskedit.editors.parts.brush_rows import begin_brush

    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))
    fresh = begin_brush(backbone, BrushRecipe(init_text="turn red into blue"), name="bluish")
    brush = Brush(replace(fresh.header, sampler="ddim", sampling_steps=3), fresh.tensors)
    return brush.save(tmp_path_factory.mktemp("brush") / "stroke.safetensors")


@pytest.fixture(scope="session")
def smartedit_checkpoint(ip2p_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny stirred SmartEdit with its LLaVA on `ip2p_folder`, whose contexts have as many rows as its texts."""
    from diffusers import UNet2DConditionModel

    from maskedit.editors import BackboneConfig
    from maskedit.editors.smartedit.files import assemble, save_smartedit
    from maskedit.editors.smartedit.mllm import Mllm, PictureForm

    tiny = runpy.run_path(f"{Path(__file__).parent}/editors/smartedit/conftest.py")
    form, sizes = PictureForm(size=32, mean=(0.5,) * 3, std=(0.3,) * 3), replace(tiny["TINY"], queries=77)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        mllm = Mllm(tiny["make_llava"](), tiny["make_tokenizer"](), form, image_tokens=4, style=tiny["PLAIN"])
        tiny["stir"](model := assemble(mllm, sizes, BackboneConfig(device="cpu")))
    unet = UNet2DConditionModel.from_pretrained(ip2p_folder, subfolder="unet")
    return save_smartedit(model, unet, tmp_path_factory.mktemp("smartedit"), base=str(ip2p_folder))
