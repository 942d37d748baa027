"""What SmartEdit is trained against, sample by sample (arXiv 2312.06739, sections 4.1 to 4.3).

Stage 1, on captions: the language model's words, and the distance of what was read to the text encoder's hidden states.
Stage 2, on edits and talks: the language model's words, and the diffusion loss of the edits; a talk counts as an edit
whose diffusion loss is zero. Every sample counts alike, and everything is drawn for each sample by itself, so that the
loss of a step does not depend on how its samples are divided; only the dropout inside of the networks does.
"""

from collections.abc import Generator, Iterator, Sequence
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
from .conversation import caption_conversation, edit_conversation, talk_conversation
from .draws import Draws, draw_for, dropout_seed
from .model import SmartEditModel, Stage
from .recipe import SmartEditRecipe
from .team import LearningTeam

_CHANGED = 4 / 255
"""A pixel is changed where a channel differs by more than this."""


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
        stage: Stage,
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
        self._seen = list[Tensor]()

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
        self._seen.append(means)

    def take_parts(self) -> Parts:
        """Means of the steps since the last call."""
        mean = torch.stack(self._seen or [torch.zeros(2)]).mean(0).tolist()
        self._seen.clear()
        return Parts(talk=mean[0], diffusion=mean[1])

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
        talks = [caption_conversation(tokenizer, *each) for each in zip(texts, templates, strict=True)]
        reading = self._model.read_conversations(talks, None)
        cut = self._backbone.tokenizer
        ids = cut(texts, padding="max_length", truncation=True, max_length=cut.model_max_length, return_tensors="pt")
        wanted = self._backbone.embed_ids(ids.input_ids).float()
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
        talks = [talk_conversation(tokenizer, each.sample.text, each.sample.answer or "") for each in chunk]
        v = self._model.look(torch.stack([_required(each.sample.image) for each in chunk]))
        loss = self._model.mllm.read(talks, v).loss.to(self._model.device)
        return loss, torch.zeros_like(loss)

    def _edits(self, chunk: Sequence[Numbered]) -> tuple[Float[Tensor, " chunk"], Float[Tensor, " chunk"]]:
        """The loss of edits; that of diffusion is the same for all of a chunk."""
        tokenizer = self._model.mllm.tokenizer
        draws = [self._draw(each) for each in chunk]
        count = len(tokenizer.style.edits)
        talks = [
            edit_conversation(tokenizer, each.sample.text, own.template_of(count))
            for each, own in zip(chunk, draws, strict=True)
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
        rows = list[Tensor]()
        for each in chunk:
            stored = getattr(each.sample, f"{side}_latents") if isinstance(each.sample, EncodedSample) else None
            picture = _required(getattr(each.sample, side))
            rows.append(self._backbone.encode(picture[None], keep=False)[0] if stored is None else stored)
        return torch.stack([row.to(self._backbone.device, torch.float32) for row in rows])

    def _changed(self, chunk: Sequence[Numbered]) -> Float[Tensor, "chunk 1 latent_height latent_width"]:
        """Which share of each latent cell truly changes."""
        pairs = [(_required(each.sample.image), _required(each.sample.target)) for each in chunk]
        changed = torch.stack([((a - b).abs() > _CHANGED).any(0, keepdim=True).float() for a, b in pairs])
        return functional.adaptive_avg_pool2d(changed, self._shape[1:]).to(self._backbone.device)

    def _timesteps(self, draws: Sequence[Draws]) -> Int[Tensor, " chunk"]:
        return torch.tensor([own.timestep(self._total, high_noise=self._recipe.high_noise) for own in draws])

    def _draw(self, numbered: Numbered) -> Draws:
        return draw_for(numbered.number, seed=self._recipe.seed, shape=self._shape)


def _required(picture: Tensor | None) -> Tensor:
    if picture is None:
        raise ModelError("expected a sample with a picture, got one without: leave captions to stage 1")
    return picture
