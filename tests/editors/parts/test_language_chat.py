"""The chat processor on tiny Llamas: one that knows an answer by heart, and one that babbles."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from maskedit.editors.core.errors import InputError, ModelError
from maskedit.editors.parts.language import LanguageProcessor, ParseError, make_language
from maskedit.editors.parts.language_chat import ChatLanguage
from maskedit.editors.parts.language_options import LanguageConfig

ANSWER = ("Segmentation prompt: red cube.", "Editing prompt 1: photo of a red cube.", "Editing prompt2: a blue cube.")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
MARKS = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]


def save_tokenizer(folder: Path, words: Sequence[str], template: str | None) -> dict[str, int]:
    """A tokenizer that knows a few words, which may be whole sentences; all others are unknown."""
    vocab = {token: index for index, token in enumerate([*MARKS, *words])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS[3:]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return vocab


def tiny_llama(size: int, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size,
            hidden_size=size + size % 2,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=4096,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
            **changes,
        )
    )


def by_heart(folder: Path, answer: Sequence[str] = ANSWER, *, template: str | None = TEMPLATE) -> Path:
    """A Llama whose weights say which token follows which: after the assistant's mark, the answer."""
    vocab = save_tokenizer(folder, answer, template)
    model = tiny_llama(len(vocab))
    chain = ["<|assistant|>", *answer, "</s>"]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Attention and feed-forward add nothing, so that a token's own embedding reaches the output layer.
            weight.fill_(1.0) if "norm" in name else weight.zero_()
        model.model.embed_tokens.weight.fill_diagonal_(1.0)
        for token, following in pairwise(chain):
            model.lm_head.weight[vocab[following], vocab[token]] = 1.0
    # Many checkpoints ask for random answers by default.
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.9, top_p=0.5, eos_token_id=2, pad_token_id=2
    )
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def chat(folder: Path, **options: Any) -> ChatLanguage:
    config = LanguageConfig(provider="chat", model=str(folder), max_tokens=120, **options)
    processor = make_language(config, offline=True)
    assert isinstance(processor, ChatLanguage) and isinstance(processor, LanguageProcessor)
    return processor


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return by_heart(tmp_path_factory.mktemp("knowing"))


@pytest.fixture(scope="module")
def babbling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("babbling")
    vocab = save_tokenizer(folder, [f"word{index}" for index in range(20)], TEMPLATE)
    tiny_llama(len(vocab)).save_pretrained(folder, safe_serialization=True)
    return folder


def test_the_models_answer_is_read(knowing: Path) -> None:
    processor = chat(knowing)
    parsed = processor.parse("make the red cube blue")
    assert parsed.phrases == ("red cube",) and parsed.edits[0].keyword == "red cube"
    assert (parsed.input_caption, parsed.edited_caption) == ("photo of a red cube", "a blue cube")
    assert processor.parse("make the red cube blue") is parsed
    assert processor.parse("make the red cube blue", "A cube.") is not parsed


def test_sampling_gives_the_same_answer_and_leaves_the_generator(babbling: Path) -> None:
    first, second = chat(babbling, temperature=1.5), chat(babbling, temperature=1.5)
    messages = [{"role": "user", "content": "word1"}]
    torch.manual_seed(7)
    said = first.complete(messages)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))
    assert said and second.complete(messages) == said
    assert chat(babbling).complete(messages) != said


def test_babble_is_an_error_of_one_line_after_a_second_try(babbling: Path) -> None:
    processor = chat(babbling)
    asked: list[int] = []

    def count(module: object, args: tuple[object, ...], given: dict[str, Any]) -> None:
        # Of a generation, only the first call reads more than one token.
        asked.append(int(given["input_ids"].shape[1] > 1))

    hook = processor.model.register_forward_pre_hook(count, with_kwargs=True)
    with pytest.raises(ParseError, match="expected the form Segmentation prompt") as caught:
        processor.parse("make the red cube blue")
    hook.remove()
    assert "\n" not in str(caught.value) and caught.value.reply.startswith("word")
    assert sum(asked) == 2


def test_a_model_without_a_system_role_gets_the_task_from_the_user(tmp_path: Path) -> None:
    processor = chat(by_heart(tmp_path, template=NO_SYSTEM))
    assert processor.parse("make the red cube blue").phrases == ("red cube",)


def test_a_long_conversation_is_refused(knowing: Path) -> None:
    with pytest.raises(InputError, match="the chat model reads 4096 tokens"):
        chat(knowing).parse("make the cube red", "a cube " * 4000)
    with pytest.raises(InputError, match="got an empty text"):
        chat(knowing).parse(" ")


def test_other_checkpoints_are_refused(tmp_path: Path, knowing: Path) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        chat(by_heart(tmp_path / "base", template=None))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json in .*'rules' needs no model"):
        chat(tmp_path / "empty")
    with pytest.raises(ModelError, match="is not on this machine"):
        chat(Path("nobody/no-model"))


def test_code_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder = by_heart(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config.update(model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match="cannot be loaded"):
        chat(folder)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = by_heart(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="has only pickle weights"):
        chat(folder)


@pytest.mark.parametrize("place", ["owner/tiny", "tiny"])
def test_a_local_copy_of_a_hub_model_is_found(tmp_path: Path, knowing: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(knowing)
    config = LanguageConfig(provider="chat", model="owner/tiny", max_tokens=120)
    processor = make_language(config, model_dir=tmp_path, offline=True)
    assert processor.parse("make the red cube blue").phrases == ("red cube",)


def test_gaps_are_not_filled_with_random_numbers(tmp_path: Path) -> None:
    folder = by_heart(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights"):
        chat(folder)
