"""What a brush is learned against: the noise of the edited pictures, through the guidance it will be used with.

InstructBrush (arXiv 2403.18660), section 4.1: the diffusion loss of the pictures after the edit, conditioned on those
before it. The segments share nothing, so a step takes one draw for each of them in one call of the UNet; each has
generators of its own, and AdamW treats every number by itself, so that the result is that of one after another.
Visii (arXiv 2307.14331), section 4.2, learns the same with one embedding, visiting every timestep once, and lets that
embedding agree with the edit's way in CLIP's space.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from ..core.attention import attention_control
from ..core.backbone import Backbone
from ..core.chunking import in_chunks
from ..core.errors import ModelError
from ..core.guidance import instruct_guidance
from ..core.types import Image, Latents
from .brush import EMBEDDING, BrushHeader, Rows
from .brush_direction import EditDirection
from .brush_options import BrushRecipe
from .brush_rows import LearnedRows, brush_prompt, layers_of, prompt_ids

_MOST_SEGMENTS = 64
_HALF_PRECISION_SCALE = 1024.0
"""Factor on the loss before it goes back through a network of half precision, whose smallest numbers are coarse."""


@dataclass(frozen=True, kw_only=True)
class _Draws:
    """What one step learns from, one row for each pair of each segment."""

    pairs: Int[Tensor, " rows"]
    segments: Int[Tensor, " rows"]
    timesteps: Int[Tensor, " rows"]
    noise: Float[Tensor, "rows channels latent_height latent_width"]

    def part(self, rows: slice) -> "_Draws":
        return _Draws(
            pairs=self.pairs[rows],
            segments=self.segments[rows],
            timesteps=self.timesteps[rows],
            noise=self.noise[rows],
        )


def segment_bounds(segment: int, segments: int, total: int) -> range:
    """Training timesteps of a segment: those with floor(segments * t / total) = segment."""
    return range(-(-total * segment // segments), -(-total * (segment + 1) // segments))


class BrushLoss:
    """The loss of all segments of a brush, for `optimize`; remembers what each of them was at every step."""

    def __init__(
        self,
        backbone: Backbone,
        header: BrushHeader,
        parameters: Mapping[str, Rows],
        recipe: BrushRecipe,
        *,
        before: Image,
        after: Image,
        only: Sequence[int] | None = None,
        direction: EditDirection | None = None,
    ) -> None:
        """Encode the pairs once.

        Args:
            backbone: the frozen networks.
            header: of the brush that is learned.
            parameters: its tensors, which the loss gives gradients to.
            recipe: how it is learned.
            before: one side of the pairs, at a size of whole latent cells.
            after: the other side.
            only: segments that take part; None = all.
            direction: the edit's way in CLIP's space, read where the recipe weighs it.

        Raises:
            ModelError: if the checkpoint predicts neither epsilon nor v.
        """
        self._backbone, self._header, self._parameters, self._recipe = backbone, header, parameters, recipe
        self._condition = backbone.encode(before)
        self._clean = backbone.scale_latents(backbone.encode(after))
        self._scheduler = DDIMScheduler.from_config(dict(backbone.scheduler_config))
        if self._scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
            kind = self._scheduler.config.prediction_type
            raise ModelError(f"expected a checkpoint that predicts epsilon or v, got {kind!r}")
        _, self._embeds = brush_prompt(header, (), backbone)
        self._direction = direction if recipe.direction_weight else None
        initial = torch.cat([self._embeds, backbone.embed_ids(prompt_ids(("",), backbone))])
        self._largest = float(initial.max()) if recipe.clip_values else math.inf
        self._only = tuple(range(header.segments)) if only is None else tuple(only)
        self._total = int(self._scheduler.config.num_train_timesteps)
        self._scale = 1.0 if backbone.dtype == torch.float32 else _HALF_PRECISION_SCALE
        device = self._condition.device
        self.curve: Float[Tensor, "steps segments"] = torch.full((recipe.steps, header.segments), torch.nan).to(device)
        """Mean loss of each segment at every step taken; NaN where none was."""
        self.lowest_loss: Float[Tensor, ""] = torch.full((), torch.inf).to(device)
        self.lowest = {name: value.detach().clone() for name, value in parameters.items()}
        """The tensors that had the lowest loss of a single step; kept only where the recipe asks for them."""

    def __call__(self, step: int, generator: torch.Generator) -> Tensor:
        """Loss of a step, summed over the segments; draws come from the seed of the generator."""
        draws = self._draw(step, generator.initial_seed())
        values = list(self._parameters.values())
        sums = [torch.zeros_like(value) for value in values]

        def go(rows: slice) -> Tensor:
            losses = self._losses(draws.part(rows))
            gradients = torch.autograd.grad(losses.sum() * self._scale, values)
            for total, gradient in zip(sums, gradients, strict=True):
                total.add_(gradient)
            return losses.detach()

        losses = torch.cat(in_chunks(go, len(draws.pairs), chunk=self._recipe.chunk)) / self._recipe.batch
        self._remember(step, draws.segments, losses)
        for total in sums:
            total.mul_(1 / (self._scale * self._recipe.batch))
        whole = losses.sum() + self._add_direction(sums)
        # Gradients are known part by part, so that a step needs the memory of one part; this hands them on.
        clipped = (total.clamp(-self._largest, self._largest) for total in sums)
        bearer = torch.stack([(value * total).sum() for value, total in zip(values, clipped, strict=True)]).sum()
        return whole + (bearer - bearer.detach())

    def _add_direction(self, sums: Sequence[Tensor]) -> Tensor | float:
        """The term on the edit's way in CLIP's space; its gradient is added to the only one there is."""
        if self._direction is None:
            return 0.0
        learned = self._parameters[EMBEDDING]
        term = -self._recipe.direction_weight * self._direction.gain(learned)
        (gradient,) = torch.autograd.grad(term, [learned])
        sums[0].add_(gradient)
        return term.detach()

    def _remember(self, step: int, segments: Int[Tensor, " rows"], losses: Float[Tensor, " rows"]) -> None:
        if step < len(self.curve):
            own = torch.zeros_like(self.curve[step]).index_add_(0, segments, losses)
            taken = torch.zeros_like(own).index_fill_(0, segments, 1.0)
            self.curve[step] = torch.where(taken > 0, own, torch.nan)
        if self._recipe.keep == "lowest":
            better = losses.sum() < self.lowest_loss
            self.lowest_loss = torch.where(better, losses.sum(), self.lowest_loss)
            for name, value in self._parameters.items():
                self.lowest[name] = torch.where(better, value.detach(), self.lowest[name])

    @torch.no_grad()
    def measure(self, draws: int, *, seed: int = 0) -> Float[Tensor, " segments"]:
        """Mean loss of each segment over fixed draws, always the same ones; nothing is learned from it."""
        losses = torch.zeros(self._header.segments, device=self._condition.device)
        count = torch.zeros_like(losses)
        for number in range(draws):
            drawn = self._draw(number, seed + number)
            found = in_chunks(lambda rows: self._losses(drawn.part(rows)), len(drawn.pairs), chunk=self._recipe.chunk)  # noqa: B023
            losses.index_add_(0, drawn.segments, torch.cat(found))
            count.index_add_(0, drawn.segments, torch.ones_like(drawn.segments, dtype=count.dtype))
        return losses / count.clamp(min=1)

    def _draw(self, step: int, seed: int) -> _Draws:
        """One draw for each pair of each segment; what a segment draws does not depend on the others."""
        device, count = self._condition.device, self._recipe.batch
        if self._recipe.kind == "visii":
            return self._draw_in_turn(step)
        pairs: list[Tensor] = []
        times: list[Tensor] = []
        noise: list[Tensor] = []
        for segment in self._only:
            own = torch.Generator(device).manual_seed(seed * _MOST_SEGMENTS + segment)
            bounds = segment_bounds(segment, self._header.segments, self._total)
            pairs.append(torch.randint(len(self._clean), (count,), generator=own, device=device))
            times.append(torch.randint(bounds.start, bounds.stop, (count,), generator=own, device=device))
            noise.append(torch.randn((count, *self._clean.shape[1:]), generator=own, device=device))
        segments = torch.tensor(self._only, device=device).repeat_interleave(count)
        return _Draws(pairs=torch.cat(pairs), segments=segments, timesteps=torch.cat(times), noise=torch.cat(noise))

    def _draw_in_turn(self, step: int) -> _Draws:
        """Visii: the timesteps in one random order, each with a noise and a pair of its own."""
        device, count, seed = self._condition.device, self._recipe.batch, self._recipe.seed
        order = torch.randperm(self._total, generator=torch.Generator().manual_seed(seed))
        numbers = [int(order[(step * count + i) % self._total]) for i in range(count)]
        generators = [torch.Generator(device).manual_seed(seed * self._total + number) for number in numbers]
        noise = [torch.randn(self._clean.shape[1:], generator=own, device=device) for own in generators]
        drawn = torch.tensor(numbers, device=device)
        return _Draws(
            pairs=drawn % len(self._clean), segments=torch.zeros_like(drawn), timesteps=drawn, noise=torch.stack(noise)
        )

    def _losses(self, draws: _Draws) -> Float[Tensor, " rows"]:
        """Loss of each row: || e - e_hat ||^2 with e_hat under guidance.

        Source: InstructBrush, section 4.1; Visii, Eq. 3. The branches that see no learned row need no gradient.
        """
        backbone, header = self._backbone, self._header
        clean, condition = self._clean[draws.pairs], self._condition[draws.pairs]
        noisy: Latents = self._scheduler.add_noise(clean, draws.noise, draws.timesteps)
        wanted = draws.noise
        if self._scheduler.config.prediction_type == "v_prediction":
            wanted = self._scheduler.get_velocity(clean, draws.noise, draws.timesteps)
        rows = LearnedRows(
            layers_of(backbone, self._parameters),
            first_row=header.first_row,
            segments=draws.segments[None],
            dtype=backbone.dtype,
        )
        conditioning = backbone.condition(("text",), self._embeds, condition)
        with attention_control(backbone.unet, [rows], ("text",)):
            predicted = backbone.predict(noisy, draws.timesteps, conditioning)["text"].float()
        if self._recipe.cfg_train:
            with torch.no_grad():
                null = backbone.condition(("image", "uncond"), self._embeds, condition)
                others = backbone.predict(noisy, draws.timesteps, null)
            branches = {"text": predicted, **{name: value.float() for name, value in others.items()}}
            predicted = instruct_guidance(branches, header.guidance_scale, header.image_guidance_scale)
        losses = ((wanted - predicted) ** 2).mean((1, 2, 3))
        # Visii weighs the noise by 4 against the other term.
        return 4 * losses if self._recipe.kind == "visii" else losses
