"""Descriptions of pictures: what BLIP-2 itself says to the two questions, once per picture, and never nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    GPT2Tokenizer,
)

from maskedit.editors.core.errors import ModelError
from maskedit.editors.core.images import image_to_pil
from maskedit.editors.core.loading import quiet_loading
from maskedit.editors.parts.captioner import Blip2Captioner, Captioner, load_captioner
from maskedit.editors.parts.grounding_options import CaptionerConfig
from maskedit.editors.parts.pretrained import load_pretrained

Make = Callable[..., torch.Tensor]


@pytest.fixture
def load(blip2_folder: Path) -> Callable[..., Blip2Captioner]:
    def make(folder: Path | None = None, **options: object) -> Blip2Captioner:
        config = CaptionerConfig(model=str(folder or blip2_folder), **{"max_new_tokens": 6, **options})
        captioner = load_captioner(config, device="cpu", offline=True)
        assert isinstance(captioner, Blip2Captioner) and isinstance(captioner, Captioner)
        return captioner

    return make


def test_descriptions_are_what_the_library_says(load: Callable, blip2_folder: Path, pictures: Make) -> None:
    image = pictures(2, 48, 80)
    with quiet_loading():
        network = Blip2ForConditionalGeneration.from_pretrained(blip2_folder).eval()
        processor = Blip2Processor.from_pretrained(blip2_folder)

    def say(picture: torch.Tensor, text: str) -> str:
        inputs = processor(images=image_to_pil(picture[None]), text=text, return_tensors="pt")  # pyright: ignore[reportCallIssue]
        return processor.batch_decode(network.generate(**inputs, max_new_tokens=6), skip_special_tokens=True)[0].strip()

    for picture, description in zip(image, load(question="What?").describe(image), strict=True):
        kind = say(picture, "What?")
        beginning = kind[0].upper() + kind[1:] + " of"
        assert description == f"{beginning} {say(picture, beginning)}."
        assert "\n" not in description


def test_what_is_said_depends_on_the_picture_and_on_the_question(load: Callable, pictures: Make) -> None:
    captioner = load()
    said = {captioner.answer(picture, text) for picture in pictures(4) for text in ("photo of", "two dogs")}
    assert len(said) > 2


def test_half_precision_is_what_a_gpu_would_run(blip2_folder: Path, pictures: Make) -> None:
    network, processor, _ = load_pretrained(
        Blip2ForConditionalGeneration,
        Blip2Processor,
        str(blip2_folder),
        role="captioner",
        device="cpu",
        model_dir=None,
        offline=True,
        dtype="float16",
    )
    assert {network.vision_model.dtype, network.language_model.dtype} == {torch.float16}
    (description,) = Blip2Captioner(network, processor, CaptionerConfig(max_new_tokens=6)).describe(pictures())
    assert " of " in description and description.endswith(".")


def test_each_picture_is_described_once(load: Callable, pictures: Make) -> None:
    captioner, image = load(), pictures(3)
    looked = []
    captioner.network.vision_model.register_forward_hook(lambda *_: looked.append(1))
    together = captioner.describe(image)
    # Two questions for each.
    assert len(looked) == 6
    assert captioner.describe(image.flip(0)) == together[::-1]
    assert len(looked) == 6


def test_a_batch_equals_its_pictures_one_by_one(load: Callable, pictures: Make) -> None:
    image = pictures(3, 64, 40)
    assert load().describe(image) == tuple(load().describe(picture[None])[0] for picture in image)


def test_saying_nothing_is_an_error(load: Callable, pictures: Make) -> None:
    captioner = load(max_new_tokens=1)
    captioner.network.language_model.generation_config.forced_eos_token_id = 1
    with pytest.raises(ModelError, match=r"to continue 'Question: .*', got nothing: turn the captioner off") as caught:
        captioner.describe(pictures())
    assert "\n" not in str(caught.value)


def test_language_models_that_repeat_their_text_are_understood(tmp_path: Path, load: Callable, pictures: Make) -> None:
    words = ["<pad>", "</s>", *"photo of a dog two".replace(" ", " \u0120").split(), *"abcdefghij"]
    tokenizer = GPT2Tokenizer(
        vocab={word: i for i, word in enumerate(words)},
        merges=[],
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="</s>",
    )
    processor = Blip2Processor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer, num_query_tokens=4)
    layers = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = Blip2Config(
        vision_config={**layers, "intermediate_size": 64, "image_size": 32, "patch_size": 8},
        qformer_config={**layers, "intermediate_size": 64, "vocab_size": 8},
        text_config={
            **layers,
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "ffn_dim": 64,
            "word_embed_proj_dim": 32,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    with quiet_loading():
        Blip2ForConditionalGeneration(config).save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
    captioner = load(tmp_path)
    picture = pictures()[0]
    inputs = processor(images=image_to_pil(picture[None]), text="abc", return_tensors="pt")  # pyright: ignore[reportCallIssue]
    everything = captioner.network.generate(**inputs, max_new_tokens=6, do_sample=False)[0]
    spoken = tokenizer.decode(everything, skip_special_tokens=True)
    answer = captioner.answer(picture, "abc")
    assert spoken.startswith("abc")
    assert answer == " ".join(spoken.removeprefix("abc").split())


def test_a_processor_that_would_leave_the_picture_out_is_refused(
    load: Callable, blip2_folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(blip2_folder, tmp_path / "copy"))
    settings = json.loads((copy / "processor_config.json").read_text())
    (copy / "processor_config.json").write_text(json.dumps({**settings, "num_query_tokens": None}))
    with pytest.raises(ModelError, match=r"leaves 0 places for the picture, expected 4: fetch a newer version"):
        load(copy)


def test_checkpoints_that_are_missing_or_pickled_are_named(load: Callable, blip2_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="as the captioner, found nothing at 'absent'"):
        load(Path("absent"))
    with pytest.raises(
        ModelError, match=r"the captioner owner/absent is not on .* --offline .*`hf download owner/absent"
    ):
        load(Path("owner/absent"))
    copy = Path(shutil.copytree(blip2_folder, tmp_path / "copy"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickle weights"):
        load(copy)
