"""What SmartEdit is trained against, sample by sample (arXiv 2312.06739, sections 4.1 to 4.3).

Stage 1, on captions: the language model's words, and the distance of what was read to the text encoder's hidden states.
Stage 2, on edits and talks: the language model's words, and the diffusion loss of the edits; a talk counts as an edit
whose diffusion loss is zero. Every sample counts alike, and everything is drawn for each sample by itself, so that the
loss of a step does not depend on how its samples are divided; only the dropout inside of the networks does.

What is said in a conversation is cut to 256 tokens beside the picture, as in the published training.
"""

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..core.backbone import Backbone
from ..core.errors import ModelError
from ..core.input_features import InputFeatures
from ..core.objective import diffusion_loss
from ..core.types import Latents, PromptEmbeds
from .batches import EncodedSample, Numbered, StepReader
from .conversation import ChatTokenizer, Conversation, caption_conversation, edit_conversation, talk_conversation
from .draws import Draws, draw_for, dropout_seed
from .model import SmartEditModel
from .recipe import SmartEditRecipe, SmartEditStage
from .team import LearningTeam

_CHANGED = 4 / 255
"""A pixel is changed where a channel differs by more than this."""
_LONGEST, _FEWEST = 256, 64
"""Tokens of a conversation without its picture, and of each text in it that are kept whatever stands around it."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loss of some steps was made of, before the recipe's factors."""

    talk: float
    """Cross-entropy of the language model's words."""
    diffusion: float
    """Diffusion loss, with zeros for talks; in stage 1 the distance to the text encoder."""


class SmartEditLoss:
    """The loss of a step in terms, one for each micro-batch."""

    def __init__(
        self,
        model: SmartEditModel,
        backbone: Backbone,
        recipe: SmartEditRecipe,
        reader: StepReader,
        *,
        stage: SmartEditStage,
        parameters: Sequence[nn.Parameter] = (),
        team: LearningTeam | None = None,
    ) -> None:
        """Prepare the loss of a stage.

        Args:
            model: all before the UNet.
            backbone: the UNet, and what encodes pictures and texts.
            recipe: how samples are drawn and weighed.
            reader: gives the samples of a step.
            stage: which loss.
            parameters: what learns; gets gradients of zero where no sample of a step reaches it.
            team: with whom the step is shared; None = nobody.

        Raises:
            ModelError: if the checkpoint does not fit: as many queries as its text has tokens, sides that its
                autoencoder can encode, a prediction of noise or v.
        """
        self._model, self._backbone, self._recipe, self._reader = model, backbone, recipe, reader
        self._stage, self._parameters, self._team = stage, parameters, team
        scheduler = DDIMScheduler.from_config(dict(backbone.scheduler_config))
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(backbone.device)
        self._scheduler, self._total = scheduler, int(scheduler.config.num_train_timesteps)
        self._empty = backbone.embed([""])
        if self._empty.shape[1:] != model.qformer.queries.shape[1:]:
            wanted, got = self._empty.shape[1:], model.qformer.queries.shape[1:]
            raise ModelError(
                f"expected queries of the text encoder's shape ({wanted[0]} x {wanted[1]}), got {got[0]} x {got[1]}: "
                "begin with an architecture that fits the checkpoint"
            )
        factor = backbone.vae_scale_factor
        if stage != "1" and recipe.size % factor:
            raise ModelError(f"expected a size in multiples of {factor} pixels, got {recipe.size}: round it")
        self._shape = (backbone.latent_channels, recipe.size // factor, recipe.size // factor)
        self._sums, self._steps = torch.zeros(2, device=model.device), 0

    def __call__(self, step: int, generator: torch.Generator) -> Iterator[Tensor]:
        """The terms of a step; nothing is drawn from the generator, since each sample has its own."""
        samples = self._reader.read(step)
        sums = torch.zeros(2, device=self._model.device)
        for chunk, is_edit in self._chunks(samples):
            with self._in_precision(), self._with_dropout(chunk[0].number):
                talk, diffusion = self._edits(chunk) if is_edit else self._words(chunk)
            weighed = self._recipe.talk_weight * talk.sum() + self._recipe.diffusion_weight * diffusion.sum()
            sums += torch.stack([talk.detach().sum(), diffusion.detach().sum()])
            yield weighed / len(samples)
        # A talk counts with a diffusion loss of zero, so what it does not reach has a gradient of zero, not none.
        for each in self._parameters:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        means = sums / len(samples)
        if self._team is not None:
            self._team.average([means])
        self._sums, self._steps = self._sums + means, self._steps + 1

    def take_parts(self) -> Parts:
        """Means of the steps since the last call."""
        talk, diffusion = (self._sums / max(1, self._steps)).tolist()
        self._sums, self._steps = torch.zeros_like(self._sums), 0
        return Parts(talk=talk, diffusion=diffusion)

    def _chunks(self, samples: Sequence[Numbered]) -> Iterator[tuple[Sequence[Numbered], bool]]:
        """Samples of one kind, as many as go through at once, and whether they are edits."""
        edits = [each for each in samples if self._stage != "1" and each.sample.is_edit]
        others = [each for each in samples if self._stage == "1" or not each.sample.is_edit]
        for group, is_edit in ((edits, True), (others, False)):
            for start in range(0, len(group), self._recipe.micro_batch):
                yield group[start : start + self._recipe.micro_batch], is_edit

    def _in_precision(self) -> AbstractContextManager[object]:
        return nullcontext() if self._team is None else self._team.autocast()

    @contextmanager
    def _with_dropout(self, number: int) -> Generator[None]:
        """Give the networks' dropout draws that depend on the sample's number alone."""
        # The only draws that networks take from nowhere but the global generator; it is left as it was.
        places = {self._model.device, self._model.mllm.device}
        with torch.random.fork_rng(devices=[place for place in places if place.type != "cpu"]):
            torch.manual_seed(dropout_seed(number, seed=self._recipe.seed))
            yield

    def _words(self, chunk: Sequence[Numbered]) -> tuple[Float[Tensor, " chunk"], Float[Tensor, " chunk"]]:
        return self._captions(chunk) if self._stage == "1" else self._talks(chunk)

    def _captions(self, chunk: Sequence[Numbered]) -> tuple[Float[Tensor, " chunk"], Float[Tensor, " chunk"]]:
        """The loss of stage 1: of the words, and the distance to the caption's hidden states."""
        tokenizer, texts = self._model.mllm.tokenizer, [each.sample.text for each in chunk]
        templates = [self._draw(each).template_of(len(tokenizer.style.captions)) for each in chunk]
        talks = [
            fit_words(tokenizer, text, lambda words, row=row: caption_conversation(tokenizer, words, row))
            for text, row in zip(texts, templates, strict=True)
        ]
        reading = self._model.read_conversations(talks, None)
        cut = self._backbone.tokenizer
        ids = cut(texts, padding="max_length", truncation=True, max_length=cut.model_max_length, return_tensors="pt")
        wanted = self._backbone.embed_ids(ids.input_ids, keep=False).float()
        return reading.talk_loss, (reading.contexts.float() - wanted).pow(2).mean((1, 2))

    def _talks(self, chunk: Sequence[Numbered]) -> tuple[Float[Tensor, " chunk"], Float[Tensor, " chunk"]]:
        """The loss of questions and answers about pictures."""
        tokenizer = self._model.mllm.tokenizer
        for each in chunk:
            if each.sample.image is None or each.sample.answer is None:
                raise ModelError(
                    f"expected a picture with its edit or an answer in stage {self._stage}, got the text "
                    f"{each.sample.text[:40]!r} alone: leave captions to stage 1"
                )
        talks = [fit_talk(tokenizer, each.sample.text, each.sample.answer or "") for each in chunk]
        v = self._model.look(torch.stack([_required(each.sample.image) for each in chunk]))
        loss = self._model.mllm.read(talks, v).loss.to(self._model.device)
        return loss, torch.zeros_like(loss)

    def _edits(self, chunk: Sequence[Numbered]) -> tuple[Float[Tensor, " chunk"], Float[Tensor, " chunk"]]:
        """The loss of edits; that of diffusion is the same for all of a chunk."""
        tokenizer = self._model.mllm.tokenizer
        draws = [self._draw(each) for each in chunk]
        count = len(tokenizer.style.edits)
        rows = [own.template_of(count) for own in draws]
        talks = [
            fit_words(tokenizer, each.sample.text, lambda words, row=row: edit_conversation(tokenizer, words, row))
            for each, row in zip(chunk, rows, strict=True)
        ]
        v = self._model.look(torch.stack([_required(each.sample.image) for each in chunk]))
        reading = self._model.read_conversations(talks, v)
        context, features = reading.contexts, None
        if self._stage == "2b":
            context, features = self._model.condition(reading, self._shape[1:])
        diffusion = self._denoise(chunk, draws, context.float(), features)
        return reading.talk_loss, diffusion.expand(len(chunk))

    def _denoise(
        self, chunk: Sequence[Numbered], draws: Sequence[Draws], context: PromptEmbeds, features: InputFeatures | None
    ) -> Float[Tensor, ""]:
        """Mean diffusion loss of some edits, with conditions dropped."""
        recipe, device = self._recipe, self._backbone.device
        dropped = torch.tensor([own.is_dropped(recipe.drop_share) for own in draws], device=device)
        no_text, no_image = dropped[:, 0, None, None], dropped[:, 1, None, None, None]
        condition = self._encode(chunk, "image")
        clean = self._backbone.scale_latents(self._encode(chunk, "target"))
        changed = self._changed(chunk)
        if recipe.keep_without_text:
            kept = no_text[..., None] & ~no_image
            clean = torch.where(kept, self._backbone.scale_latents(condition), clean)
            changed = changed * ~kept
        if features is not None and recipe.drop_features:
            features = torch.where(no_text[..., None], 0.0, features)
        weight = 1 + recipe.changed_weight * changed
        return diffusion_loss(
            self._backbone.unet,
            self._scheduler,
            clean,
            noise=torch.stack([own.noise for own in draws]).to(device),
            timesteps=self._timesteps(draws).to(device),
            embeds=torch.where(no_text, self._empty, context),
            condition=torch.where(no_image, 0.0, condition),
            # Every sample weighs the same, whatever it is beside.
            weight=weight / weight.mean((1, 2, 3), keepdim=True),
            features=features,
        )

    def _encode(self, chunk: Sequence[Numbered], side: str) -> Latents:
        """Unscaled latents of the images or the targets; those that come with a sample are taken."""
        stored = [
            getattr(each.sample, f"{side}_latents") if isinstance(each.sample, EncodedSample) else None
            for each in chunk
        ]
        pictures = [_required(getattr(each.sample, side)) for each in chunk]
        due = [picture for picture, own in zip(pictures, stored, strict=True) if own is None]
        encoded = iter(self._backbone.encode(torch.stack(due), at_once=True) if due else ())
        rows = [next(encoded) if own is None else own for own in stored]
        return torch.stack([row.to(self._backbone.device, torch.float32) for row in rows])

    def _changed(self, chunk: Sequence[Numbered]) -> Float[Tensor, "chunk 1 latent_height latent_width"]:
        """Which share of each latent cell truly changes; zeros where nobody asks."""
        if not self._recipe.changed_weight:
            return torch.zeros((len(chunk), 1, *self._shape[1:]), device=self._backbone.device)
        pairs = [(_required(each.sample.image), _required(each.sample.target)) for each in chunk]
        changed = torch.stack([((a - b).abs() > _CHANGED).any(0, keepdim=True).float() for a, b in pairs])
        return functional.adaptive_avg_pool2d(changed, self._shape[1:]).to(self._backbone.device)

    def _timesteps(self, draws: Sequence[Draws]) -> Int[Tensor, " chunk"]:
        return torch.tensor([own.timestep(self._total, high_noise=self._recipe.high_noise) for own in draws])

    def _draw(self, numbered: Numbered) -> Draws:
        return draw_for(numbered.number, seed=self._recipe.seed, shape=self._shape)


def fit_words(tokenizer: ChatTokenizer, text: str, make: Callable[[str], Conversation]) -> Conversation:
    """A conversation around a text, which is cut where it makes it too long.

    Args:
        tokenizer: of the language model.
        text: the user's words.
        make: puts words into a conversation.
    """
    conversation = make(text)
    over = _length(conversation) - _LONGEST
    if over <= 0:
        return conversation
    most = max(len(tokenizer.encode(text)) - over, _FEWEST)
    # Tokens of a text from its beginning become no fewer when letters are added.
    kept = bisect_right(range(1, len(text) + 1), most, key=lambda letters: len(tokenizer.encode(text[:letters])))
    return make(text[: max(kept, 1)])


def fit_talk(tokenizer: ChatTokenizer, question: str, answer: str) -> Conversation:
    """A question and its answer; where they are too long, first the answer is cut, then the question.

    Args:
        tokenizer: of the language model.
        question: the user's words.
        answer: the language model's.
    """
    whole = talk_conversation(tokenizer, question, answer, longest=_LONGEST)
    said = len(whole.answer) - len(tokenizer.end())
    longest = max(said - max(_length(whole) - _LONGEST, 0), _FEWEST)
    return fit_words(tokenizer, question, lambda words: talk_conversation(tokenizer, words, answer, longest=longest))


def _length(conversation: Conversation) -> int:
    return len(conversation.before) + len(conversation.after) + len(conversation.answer)


def _required(picture: Tensor | None) -> Tensor:
    if picture is None:
        raise ModelError("expected a sample with a picture, got one without: leave captions to stage 1")
    return picture
