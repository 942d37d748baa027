"""The language model agrees with transformers' own LLaVA, and each conversation with itself in any company."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskedit.editors.core.errors import InputError, ModelError
from maskedit.editors.smartedit.conversation import PLAIN, Conversation, edit_conversation, talk_conversation
from maskedit.editors.smartedit.mllm import LoraOptions, Mllm, PictureForm
from maskedit.editors.smartedit.model import SmartEditModel

from .conftest import make_llava, make_tokenizer, stir

FORM = PictureForm(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture
def mllm(smartedit: SmartEditModel) -> Mllm:
    """Every new row and all of LoRA stirred, so that each matters."""
    stir(smartedit)
    return smartedit.mllm


def conversations(mllm: Mllm) -> list[Conversation]:
    texts = ("red", "put a very small hat onto the dog on the left", "remove it, please")
    edits = [edit_conversation(mllm.tokenizer, text) for text in texts]
    return [*edits, talk_conversation(mllm.tokenizer, "how many?", "two of them")]


def pictures(count: int) -> Tensor:
    return torch.rand((count, 3, 40, 56), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("pad_left", [False, True])
def test_a_conversation_does_not_depend_on_those_beside_it(mllm: Mllm, pad_left: bool) -> None:
    talks, v = conversations(mllm), mllm.look(pictures(4))
    together = mllm.read(talks, v, pad_left=pad_left)
    for row, talk in enumerate(talks):
        alone = mllm.read([talk], v[row : row + 1])
        torch.testing.assert_close(together.states[row], alone.states[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.loss[row], alone.loss[0], rtol=0, atol=1e-5)
    assert not together.states[3].any() and together.states[:3].abs().amin((1, 2)).all()


def as_plain_llava(mllm: Mllm) -> torch.nn.Module:
    """transformers' own model with the new rows in its embedding and its head, and LoRA merged into its weights."""
    mllm = copy.deepcopy(mllm)
    llava = mllm.llava
    llava.model.language_model = mllm.language.merge_and_unload()
    embedding = llava.model.language_model.embed_tokens
    llava.set_input_embeddings(torch.nn.Embedding.from_pretrained(torch.cat([embedding.weight, mllm.new_inputs])))
    llava.lm_head.weight = torch.nn.Parameter(torch.cat([llava.lm_head.weight, mllm.new_outputs]))
    llava.config.text_config.vocab_size += len(mllm.new_inputs)
    return llava


def test_states_and_loss_are_those_of_transformers(mllm: Mllm, tolerance) -> None:
    (talk, *_), image = conversations(mllm), pictures(1)
    llava = as_plain_llava(mllm)
    line = [*talk.before, *[263] * 16, *talk.after, *talk.answer]
    labels = [-100] * (len(line) - len(talk.answer)) + list(talk.answer)
    small = torch.nn.functional.interpolate(image, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(each)[:, None, None] for each in (mllm.form.mean, mllm.form.std))
    output = llava(
        input_ids=torch.tensor([line]),
        pixel_values=(small - mean) / std,
        labels=torch.tensor([labels]),
        output_hidden_states=True,
    )
    got = mllm.read([talk], mllm.look(image))
    start = len(line) - len(talk.answer)
    places = [start + place for place in talk.image_tokens]
    assert [line[place] for place in places] == list(mllm.tokenizer.image_ids)
    torch.testing.assert_close(got.states, output.hidden_states[-1][:, places], **vars(tolerance(torch.float32)))
    torch.testing.assert_close(got.loss[0], output.loss, **vars(tolerance(torch.float32)))


def test_what_comes_later_changes_no_state(mllm: Mllm) -> None:
    talk, v = conversations(mllm)[0], mllm.look(pictures(1))
    longer = Conversation(**{**vars(talk), "answer": (*talk.answer, 40, 41), "labels": (*talk.labels, True, True)})
    before, after = mllm.read([talk], v), mllm.read([longer], v)
    torch.testing.assert_close(before.states, after.states, rtol=0, atol=1e-6)
    assert abs(float(before.loss - after.loss)) > 1e-4
    asked = edit_conversation(mllm.tokenizer, "blue")
    assert not torch.allclose(before.states, mllm.read([asked], v).states, atol=1e-3)
    assert not torch.allclose(before.states, mllm.read([talk], -v).states, atol=1e-3)


def test_one_pass_equals_decoding_step_by_step(mllm: Mllm) -> None:
    talk, v = conversations(mllm)[1], mllm.look(pictures(1))
    rows = mllm._lay_out(mllm._lines([talk], v), [talk], v, pad_left=False)
    first = rows.embeds.shape[1] - len(talk.answer)
    cache, states = None, []
    for begin, end in [(0, first), *((i, i + 1) for i in range(first, rows.embeds.shape[1]))]:
        output = mllm.language(inputs_embeds=rows.embeds[:, begin:end], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        states.append(output.last_hidden_state[:, -1])
    collected = torch.stack([states[1 + place] for place in talk.image_tokens], 1)
    torch.testing.assert_close(mllm.read([talk], v).states, collected, rtol=0, atol=1e-5)


def test_a_step_moves_new_rows_and_the_adapter_and_no_old_row(smartedit: SmartEditModel) -> None:
    mllm, learned = smartedit.mllm, smartedit.trainable("2a")
    before = {name: each.clone() for name, each in mllm.named_parameters()}
    optimizer = torch.optim.AdamW(learned.values(), lr=1e-2, weight_decay=0.1)
    mllm.train()
    mllm.save_memory()
    v = mllm.look(pictures(4))
    for _ in range(2):
        optimizer.zero_grad()
        output = mllm.read(conversations(mllm), v)
        (output.loss.mean() + output.states.square().mean()).backward()
        optimizer.step()
    for name, each in mllm.named_parameters():
        moves = "new_" in name or ".lora_" in name
        assert torch.equal(each, before[name]) != moves, name


def test_pictures_are_squashed_and_normalised_as_by_the_processor(tolerance) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessor

    llava = make_llava()
    mllm = Mllm(llava, make_tokenizer(), FORM, image_tokens=2, style=PLAIN)
    picture = torch.randint(0, 256, (48, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # Blurred, since the libraries round differently where neighbouring pixels are far apart.
    smooth = torch.nn.functional.avg_pool2d(picture.permute(2, 0, 1)[None].float(), 7, 1, 3)[0].round().byte()
    squashed = Image.fromarray(smooth.permute(1, 2, 0).numpy()).resize((32, 32), Image.Resampling.BICUBIC)
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False, image_mean=FORM.mean, image_std=FORM.std)
    pixels = processor(squashed, return_tensors="pt").pixel_values
    wanted = llava.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    got = mllm.look(smooth[None].float() / 255)
    assert got.shape == (1, 16, 32) == (1, 16, mllm.vision_width)
    # PIL rounds to 256 levels twice, once along each axis.
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.1)
    assert (got - wanted).abs().mean() < 0.02 * wanted.abs().mean()


def test_an_untrained_model_guesses(smartedit: SmartEditModel) -> None:
    mllm = smartedit.mllm
    loss = mllm.answer_loss(edit_conversation(mllm.tokenizer, "make it red"), mllm.look(pictures(1)))
    assert loss == pytest.approx(math.log(264 + 7), abs=0.3)


def test_fresh_rows_are_the_mean_of_the_old_and_a_fresh_adapter_does_nothing(smartedit: SmartEditModel) -> None:
    mllm = smartedit.mllm
    old = mllm.language.get_input_embeddings().weight
    assert mllm.new_inputs.shape == mllm.new_outputs.shape == (7, 48)
    torch.testing.assert_close(mllm.new_inputs, old.mean(0).expand(7, -1))
    torch.testing.assert_close(mllm.new_outputs, mllm.llava.lm_head.weight.mean(0).expand(7, -1))
    talks, v = conversations(mllm), mllm.look(pictures(4))
    with mllm.language.disable_adapter():
        without = mllm.read(talks, v)
    assert torch.equal(without.states, mllm.read(talks, v).states)


@pytest.mark.parametrize(("rank", "alpha"), [(8, 16), (16, 27)])
def test_lora_is_on_queries_and_values(rank: int, alpha: int) -> None:
    options = LoraOptions(rank=rank, alpha=alpha)
    mllm = Mllm(make_llava(), make_tokenizer(), FORM, image_tokens=2, style=PLAIN, lora=options)
    shapes = {tuple(each.shape) for each in mllm.adapter_parameters().values()}
    assert shapes == {(rank, 48), (48, rank)}
    assert {name.split(".")[-4] for name in mllm.adapter_parameters()} == {"q_proj", "v_proj"}
    assert mllm.language.peft_config["default"].lora_alpha == alpha  # pyright: ignore[reportAttributeAccessIssue]
    assert not any(each.requires_grad for each in mllm.parameters())


def test_half_precision_keeps_what_learns_in_full() -> None:
    mllm = Mllm(make_llava().to(torch.bfloat16), make_tokenizer(), FORM, image_tokens=2, style=PLAIN)
    kinds = {each.dtype for each in (mllm.new_inputs, mllm.new_outputs, *mllm.adapter_parameters().values())}
    assert kinds == {torch.float32} and mllm.dtype == torch.bfloat16
    output = mllm.read([edit_conversation(mllm.tokenizer, "red")], mllm.look(pictures(1)))
    assert output.states.dtype == output.loss.dtype == torch.float32


@pytest.mark.parametrize("change", [{"rank": 0}, {"dropout": 1.0}])
def test_impossible_options_are_refused(change) -> None:
    with pytest.raises(ValueError, match="must be"):
        LoraOptions(**change)


def test_what_cannot_be_read_is_refused(mllm: Mllm) -> None:
    talk = edit_conversation(mllm.tokenizer, "red " * 200)
    with pytest.raises(InputError, match="expected at most 512 tokens"):
        mllm.read([talk], mllm.look(pictures(1)))
    with pytest.raises(InputError, match="expected a picture"):
        mllm.read([talk], None)


def test_fresh_rows_are_summed_in_full_precision() -> None:
    llava = make_llava().to(torch.bfloat16)
    mllm = Mllm(llava, make_tokenizer(), FORM, image_tokens=2, style=PLAIN)
    rows = llava.lm_head.weight.float().mean(0)
    torch.testing.assert_close(mllm.new_outputs, rows.expand(5, -1), rtol=0, atol=1e-6)


def with_adapter(folder: Path) -> Mllm:
    return Mllm(make_llava(), make_tokenizer(), FORM, image_tokens=4, style=PLAIN, adapter=str(folder))


@pytest.fixture
def adapter(mllm: Mllm, tmp_path: Path) -> Path:
    mllm.language.peft_config["default"].base_model_name_or_path = None
    mllm.language.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_an_adapter_comes_back_bit_for_bit(mllm: Mllm, adapter: Path) -> None:
    wanted, again = mllm.adapter_parameters(), with_adapter(adapter).adapter_parameters()
    assert wanted.keys() == again.keys()
    assert all(torch.equal(wanted[name], again[name]) for name in wanted)


def halve(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if ".layers.1." in name]:
        del tensors[name]


def rename(tensors: dict[str, Tensor]) -> None:
    for name in list(tensors):
        tensors[name.replace("base_model.model.", "base_model.model.model.")] = tensors.pop(name)


def widen(tensors: dict[str, Tensor]) -> None:
    tensors.update({name: torch.cat([each, each], 0) for name, each in tensors.items() if ".lora_A" in name})


@pytest.mark.parametrize("change", [halve, rename, widen])
def test_an_adapter_that_does_not_fit_is_refused(adapter: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"does not fit the language model .*: use its own adapter"):
        with_adapter(adapter)


def test_an_adapter_of_another_kind_is_refused(adapter: Path) -> None:
    path = adapter / "adapter_config.json"
    options = json.loads(path.read_text())
    for change in ({"peft_type": "IA3"}, {"peft_type": "x"}, {"target_modules": ["no_such_layer"]}):
        path.write_text(json.dumps({**options, **change}))
        with pytest.raises(ModelError, match=r"the adapter .* does not fit the language model \(.*: use its own"):
            with_adapter(adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_nobody_is_asked_for_an_adapter_that_is_not_whole(
    adapter: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    for asks in ("hf_hub_download", "file_exists"):
        monkeypatch.setattr(f"peft.utils.save_and_load.{asks}", ask)
    (adapter / name).unlink()
    # A pickle, which may run code, is none.
    torch.save({}, adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=f"no {name} in"):
        with_adapter(adapter)
