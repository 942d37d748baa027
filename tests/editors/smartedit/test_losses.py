"""The losses of both stages: divided as one likes, by hand, and which part gets a gradient from what."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from maskedit.editors import Backbone, BackboneConfig, ModelError
from maskedit.editors.core.input_features import add_input_features
from maskedit.editors.smartedit.batches import EncodedSample, StepReader, fit_sample
from maskedit.editors.smartedit.conversation import caption_conversation, edit_conversation, talk_conversation
from maskedit.editors.smartedit.draws import draw_for
from maskedit.editors.smartedit.losses import SmartEditLoss, fit_talk, fit_words
from maskedit.editors.smartedit.model import SmartEditModel
from maskedit.editors.smartedit.recipe import SmartEditRecipe
from maskedit.editors.smartedit.samples import Sample

SIZE = 32


class Pictures:
    """Edits and talks in turn, or captions."""

    def __init__(self, kinds: Sequence[str] = ("edit", "edit", "talk")) -> None:
        self.kinds = kinds

    def draw(self, number: int) -> Sample:
        kind = self.kinds[number % len(self.kinds)]
        pictures = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(number))
        if kind == "caption":
            return Sample(text=f"a picture of {number}")
        if kind == "talk":
            return Sample(text="how many?", image=pictures[0], answer=f"{number} of them")
        target = pictures[0].clone()
        target[:, :16, :8] = pictures[1, :, :16, :8]
        return Sample(text=f"make it {number}", image=pictures[0], target=target)


@pytest.fixture(scope="module")
def backbone(ip2p_folder: Any) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))


def recipe(**more: Any) -> SmartEditRecipe:
    return SmartEditRecipe(**{"steps": 4, "batch": 6, "micro_batch": 6, "size": SIZE, "dropout": False, **more})


def loss_of(
    model: SmartEditModel, backbone: Backbone, settings: SmartEditRecipe, *, source: Any = None, **more: Any
) -> SmartEditLoss:
    numbers = {"index": more.pop("index", 0), "count": more.pop("count", 1)}
    reader = StepReader(source or Pictures(), batch=settings.batch, size=settings.size, steps=settings.steps, **numbers)
    return SmartEditLoss(model, backbone, settings, reader, **{"stage": "2b", **more})


def terms(loss: SmartEditLoss, step: int = 0) -> Iterator[torch.Tensor]:
    return loss(step, torch.Generator())


@torch.no_grad()
def total(loss: SmartEditLoss, step: int = 0) -> float:
    return float(sum(terms(loss, step)))


@pytest.mark.parametrize("stage", ["1", "2a", "2b"])
def test_a_step_costs_the_same_however_it_is_divided(learnable: SmartEditModel, backbone: Backbone, stage: str) -> None:
    source = Pictures(["caption"]) if stage == "1" else Pictures()
    # Every option that weighs or changes a sample by itself, in a step of which samples are dropped in several ways.
    more: dict[str, Any] = {"changed_weight": 3.0, "keep_without_text": True, "drop_features": True, "drop_share": 0.25}
    dropped = {draw_for(number, seed=0, shape=(4, 8, 8)).is_dropped(0.25) for number in (6, 7, 9, 10)}
    assert len(dropped) >= 3

    def cost(step: int = 1, micro: int = 6, **team: int) -> float:
        settings = recipe(micro_batch=micro, **more)
        return total(loss_of(learnable, backbone, settings, stage=stage, source=source, **team), step)

    whole = cost()
    for micro in (1, 4):
        assert cost(micro=micro) == pytest.approx(whole, rel=1e-5)
    assert sum(cost(index=i, count=2) for i in (0, 1)) / 2 == pytest.approx(whole, rel=1e-5)
    assert cost(0) != pytest.approx(whole, rel=1e-4)


@torch.no_grad()
def test_the_first_stage_is_words_and_distance_to_the_text_encoder(
    learnable: SmartEditModel, backbone: Backbone
) -> None:
    settings = recipe(batch=1, talk_weight=2.0, diffusion_weight=3.0)
    caption = Pictures(["caption"]).draw(0).text
    read = learnable.mllm.read([caption_conversation(learnable.mllm.tokenizer, caption)], None)
    distance = ((learnable.qformer(read.states) - backbone.embed([caption])) ** 2).mean()
    loss = loss_of(learnable, backbone, settings, stage="1", source=Pictures(["caption"]))
    assert total(loss) == pytest.approx(2 * float(read.loss) + 3 * float(distance), rel=1e-5)
    parts = loss.take_parts()
    assert parts.talk == pytest.approx(float(read.loss), rel=1e-5)
    assert parts.diffusion == pytest.approx(float(distance), rel=1e-5)
    assert loss.take_parts().talk == 0


@torch.no_grad()
def test_the_second_stage_is_words_and_noise_with_zeros_for_talks(
    learnable: SmartEditModel, backbone: Backbone
) -> None:
    settings, source = recipe(batch=3, drop_share=0.0), Pictures(["edit", "talk", "talk"])
    edit, *talks = (source.draw(number) for number in range(3))
    own = draw_for(0, seed=0, shape=(4, 8, 8))
    v = learnable.look(edit.image[None])
    reading = learnable.read_conversations([edit_conversation(learnable.mllm.tokenizer, edit.text)], v)
    context, features = learnable.condition(reading, (8, 8))
    clean = backbone.encode(edit.target[None]) * backbone.vae.config.scaling_factor
    scheduler = DDIMScheduler.from_config(backbone.scheduler_config)
    time = torch.tensor([own.timestep(1000)])
    noisy = scheduler.add_noise(clean, own.noise[None], time)
    with add_input_features(backbone.unet, features):
        predicted = backbone.unet(torch.cat([noisy, backbone.encode(edit.image[None])], 1), time, context).sample
    diffusion = float(((predicted - own.noise[None]) ** 2).mean())
    words = float(reading.talk_loss)
    for talk in talks:
        conversation = talk_conversation(learnable.mllm.tokenizer, talk.text, talk.answer)
        words += float(learnable.mllm.read([conversation], learnable.look(talk.image[None])).loss)
    assert total(loss_of(learnable, backbone, settings, source=source)) == pytest.approx(
        (words + diffusion) / 3, rel=1e-5
    )


def conditions_of(
    learnable: SmartEditModel, backbone: Backbone, monkeypatch: pytest.MonkeyPatch, number: int, **more: Any
) -> dict[str, Any]:
    """What the diffusion loss is given for one edit, whose draw says what is dropped."""
    given: dict[str, Any] = {}

    def record(unet: Any, scheduler: Any, clean: Any, **rest: Any) -> torch.Tensor:
        given.update(rest, clean=clean)
        return torch.zeros(())

    monkeypatch.setattr("maskedit.editors.smartedit.losses.diffusion_loss", record)
    settings = recipe(batch=1, steps=number + 1, drop_share=0.25, **more)
    total(loss_of(learnable, backbone, settings, source=Pictures(["edit"])), number)
    return given


@pytest.mark.parametrize("dropped", [(False, False), (True, False), (True, True), (False, True)])
def test_conditions_are_dropped_as_drawn_and_features_stay(
    learnable: SmartEditModel, backbone: Backbone, monkeypatch: pytest.MonkeyPatch, dropped: tuple[bool, bool]
) -> None:
    number = next(n for n in range(99) if draw_for(n, seed=0, shape=(4, 8, 8)).is_dropped(0.25) == dropped)
    edit = Pictures(["edit"]).draw(number)
    given = conditions_of(learnable, backbone, monkeypatch, number)
    no_text, no_image = dropped
    assert torch.equal(given["embeds"], backbone.embed([""])) == no_text
    assert bool((given["condition"] == 0).all()) == no_image
    if not no_image:
        torch.testing.assert_close(given["condition"], backbone.encode(edit.image[None]))
    factor = backbone.vae.config.scaling_factor
    torch.testing.assert_close(given["clean"], backbone.encode(edit.target[None]) * factor)
    assert given["features"].abs().max() > 0

    changed = conditions_of(learnable, backbone, monkeypatch, number, keep_without_text=True, drop_features=True)
    assert bool((changed["features"] == 0).all()) == no_text
    kept = edit.image if dropped == (True, False) else edit.target
    torch.testing.assert_close(changed["clean"], backbone.encode(kept[None]) * factor)


def test_weights_follow_what_changes_and_are_one_on_average(
    learnable: SmartEditModel, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    even = conditions_of(learnable, backbone, monkeypatch, 0)["weight"]
    assert torch.equal(even, torch.ones(1, 1, 8, 8))
    weight = conditions_of(learnable, backbone, monkeypatch, 0, changed_weight=3.0)["weight"]
    assert weight.mean().item() == pytest.approx(1)
    # The upper left 16 x 8 pixels change: 4 x 2 cells of 64.
    torch.testing.assert_close(weight[0, 0, :4, :2], torch.full((4, 2), 4 / (1 + 3 * 8 / 64)))
    torch.testing.assert_close(weight[0, 0, 4:], torch.full((4, 8), 1 / (1 + 3 * 8 / 64)))


def test_latents_that_come_with_a_sample_are_taken(learnable: SmartEditModel, backbone: Backbone) -> None:
    class Encoded:
        def draw(self, number: int) -> Sample:
            plain = Pictures(["edit"]).draw(number)
            latents = [backbone.encode(each[None])[0] for each in (plain.image, plain.target)]
            return EncodedSample(**vars(plain), image_latents=latents[0], target_latents=latents[1])

    source = Encoded()
    encoded = total(loss_of(learnable, backbone, recipe(batch=2), source=source))
    before = backbone.counts["image"]
    assert total(loss_of(learnable, backbone, recipe(batch=2), source=Pictures(["edit"]))) == pytest.approx(encoded)
    assert backbone.counts["image"] == before + 4
    assert isinstance(fit_sample(source.draw(0), SIZE), EncodedSample)


def gradients(model: SmartEditModel, backbone: Backbone, stage: str, kind: str) -> dict[str, float]:
    """Norm of the gradient of each part after a step of one kind of samples; 0 also where there is none."""
    own = model.trainable(stage)
    parameters = own | {f"unet.{name}": each for name, each in backbone.unet.named_parameters()}
    backbone.unet.requires_grad_(True)
    try:
        loss = loss_of(model, backbone, recipe(batch=2), stage=stage, source=Pictures([kind]))
        for term in terms(loss):
            term.backward()
        parts: dict[str, float] = {}
        for name, each in parameters.items():
            part = "lora" if ".lora_" in name else name.removeprefix("mllm.").partition(".")[0]
            parts[part] = parts.get(part, 0.0) + (0.0 if each.grad is None else float(each.grad.norm()))
            each.grad = None
        return parts
    finally:
        backbone.unet.requires_grad_(False)
        model.requires_grad_(False)


def test_talks_teach_the_language_model_alone(learnable: SmartEditModel, backbone: Backbone) -> None:
    parts = gradients(learnable, backbone, "2b", "talk")
    assert {name for name, norm in parts.items() if norm} == {"lora", "new_inputs", "new_outputs"}


def test_edits_teach_every_part(learnable: SmartEditModel, backbone: Backbone) -> None:
    parts = gradients(learnable, backbone, "2b", "edit")
    assert {name for name, norm in parts.items() if norm} == {
        *("lora", "new_inputs", "new_outputs", "qformer", "interaction", "unet"),
    }


def test_without_interaction_it_is_left_alone(learnable: SmartEditModel, backbone: Backbone) -> None:
    learnable.interaction.requires_grad_(True)
    parts = gradients(learnable, backbone, "2a", "edit")
    assert {name for name, norm in parts.items() if norm} == {"lora", "new_inputs", "new_outputs", "qformer", "unet"}
    assert all(each.grad is None for each in learnable.interaction.parameters())


def test_captions_teach_the_qformer_and_the_new_rows(learnable: SmartEditModel, backbone: Backbone) -> None:
    parts = gradients(learnable, backbone, "1", "caption")
    assert {name for name, norm in parts.items() if norm} == {"new_inputs", "new_outputs", "qformer"}


def test_dropout_depends_on_the_samples_and_leaves_the_global_generator_alone(
    learnable: SmartEditModel, backbone: Backbone
) -> None:
    learnable.qformer.train()
    state = torch.get_rng_state()
    first = total(loss_of(learnable, backbone, recipe(dropout=True)))
    torch.rand(3)
    again = total(loss_of(learnable, backbone, recipe(dropout=True)))
    assert first == again
    learnable.qformer.eval()
    assert total(loss_of(learnable, backbone, recipe())) != first
    torch.set_rng_state(state)
    total(loss_of(learnable, backbone, recipe()))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_not_reached_gets_a_gradient_of_zero(learnable: SmartEditModel, backbone: Backbone) -> None:
    own = learnable.trainable("2b")
    loss = loss_of(learnable, backbone, recipe(), source=Pictures(["talk"]), parameters=list(own.values()))
    for term in terms(loss):
        term.backward()
    assert all(each.grad is not None for each in own.values())
    assert own["qformer.queries"].grad.abs().max() == 0


def test_long_texts_are_cut_and_short_ones_stay(learnable: SmartEditModel) -> None:
    tokenizer = learnable.mllm.tokenizer

    def length(conversation: Any) -> int:
        return len(conversation.before) + len(conversation.after) + len(conversation.answer)

    for kind in (edit_conversation, caption_conversation):
        make = partial(kind, tokenizer)
        assert fit_words(tokenizer, "make it red", make) == make("make it red")
        long = fit_words(tokenizer, "make it " + "very " * 999 + "red", make)
        # A space at the end of what is left is cut, too.
        assert 250 <= length(long) <= 256
        assert len(long.image_tokens) == 4
    assert fit_talk(tokenizer, "what?", "that") == talk_conversation(tokenizer, "what?", "that")
    for question, answer in (("what?", "a" * 999), ("what " * 200, "b" * 90), ("what " * 200, "c" * 999)):
        talk = fit_talk(tokenizer, question, answer)
        assert 250 <= length(talk) <= 256
        # Each keeps at least 64 of its tokens.
        assert len(talk.answer) >= 64 or answer in tokenizer.decode(talk.answer)
        assert talk.labels == (True,) * len(talk.answer)


def test_captions_and_pictures_of_a_training_are_not_remembered(
    learnable: SmartEditModel, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list[int]()
    run_text, run_encoder = backbone._run_text, backbone._run_encoder
    monkeypatch.setattr(backbone, "_run_text", lambda ids: (rows.append(len(ids)), run_text(ids))[1])
    monkeypatch.setattr(backbone, "_run_encoder", lambda image: (rows.append(len(image)), run_encoder(image))[1])
    captions = loss_of(learnable, backbone, recipe(), stage="1", source=Pictures(["caption"]))
    edits = loss_of(learnable, backbone, recipe(), source=Pictures(["edit"]))
    for loss in (captions, captions, edits):
        rows.clear()
        total(loss)
        assert rows == [6] * (1 if loss is captions else 2)


@pytest.mark.parametrize(
    ("more", "source", "expected"),
    [
        ({"size": 30}, None, "multiples of 4 pixels, got 30"),
        ({}, Pictures(["caption"]), "leave captions to stage 1"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    learnable: SmartEditModel, backbone: Backbone, more: dict[str, Any], source: Any, expected: str
) -> None:
    with pytest.raises(ModelError, match=expected):
        total(loss_of(learnable, backbone, recipe(**more), source=source))


def test_another_number_of_queries_is_refused(
    learnable: SmartEditModel, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learnable.qformer, "queries", torch.nn.Parameter(torch.zeros(1, 7, 32)))
    with pytest.raises(ModelError, match=r"text encoder's shape \(77 x 32\), got 7 x 32"):
        loss_of(learnable, backbone, recipe())


def test_the_words_of_an_empty_answer_are_refused(learnable: SmartEditModel, backbone: Backbone) -> None:
    class Silent:
        def draw(self, number: int) -> Sample:
            return replace(Pictures(["talk"]).draw(number), answer=None)

    with pytest.raises(ModelError, match="its edit or an answer in stage 2b"):
        total(loss_of(learnable, backbone, recipe(), source=Silent()))
