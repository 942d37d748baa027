"""Fitting canonical images and deformation fields to the frames of a clip.

Source: CoDeF (arXiv 2308.07926), section 3. Differs from the paper: several frames a step instead of one, all layers in
one run, a cosine schedule; and dense fields start from the flow, chained to a reference frame, whose picture is where
the canonical image starts: it is a natural picture from the first step on.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..editors import Image, InputError, OptimizeConfig, OptimizeProgress, SessionError, optimize, write_atomic
from .canonical import CanonicalImage, canonical_image
from .fields import (
    CanonicalField,
    DeformationField,
    DenseCanonical,
    DenseDeformation,
    FieldShape,
    pixel_centres,
)
from .fit_options import LEARNING_RATES, FitConfig
from .flow import ClipFlow, chain_flow
from .hash_fields import (
    FrequencyCanonical,
    FrequencyDeformation,
    HashCanonical,
    HashCanonicalConfig,
    HashDeformation,
    HashDeformationConfig,
)
from .hash_grid import HashGridConfig
from .losses import color_loss, flow_loss, gradient_loss
from .render import compose, render_frames

_CELLS = 128
"""Along the longest side of the finest deformation grid, unless told otherwise."""
_CHUNK = 8
"""Frames rendered at once."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The fields of one layer."""

    canonical: CanonicalField
    deformation: DeformationField


@dataclass(frozen=True, kw_only=True)
class FitProgress:
    """Where a fit stands."""

    step: int
    steps: int
    psnr: float
    """Of the frames seen since the last report, in dB."""
    seconds: float
    """Spent since this process began or resumed."""


class ClipFit:
    """A clip as layers of fields."""

    def __init__(self, config: FitConfig, shape: FieldShape, layers: int, device: torch.device | str) -> None:
        """Fields that know nothing yet.

        Args:
            config: which kind.
            shape: of the clip.
            layers: how many, at least 1.
            device: where they are kept.
        """
        self.config, self.shape = config, shape
        generator = torch.Generator().manual_seed(config.seed)
        self.layers = tuple(_make_layer(config, shape, torch.device(device), generator) for _ in range(layers))

    @property
    def device(self) -> torch.device:
        """Where the fields are kept."""
        return next(self.layers[0].canonical.parameters()).device

    def parameters(self) -> dict[str, Tensor]:
        """Everything that is learned, by name."""
        return {
            f"layer_{number}.{part}.{name}": value
            for number, layer in enumerate(self.layers)
            for part, field in (("canonical", layer.canonical), ("deformation", layer.deformation))
            for name, value in field.named_parameters()
        }

    @torch.no_grad()
    def offsets(self, layer: int, frames: Int[Tensor, " frame"], size: tuple[int, int]) -> Float[Tensor, "frame _ _ 2"]:
        """Offsets of all pixels of some frames, at any size (rows, columns)."""
        return self.layers[layer].deformation.on_grid(frames.to(self.device), *size)

    @torch.no_grad()
    def canonical(self, layer: int, masks: Float[Tensor, "layer frame 1 height width"] | None) -> CanonicalImage:
        """The canonical image of a layer."""
        fields, mask = self.layers[layer], None if masks is None else masks[layer]
        return canonical_image(fields.canonical.image(self.shape), fields.deformation, self.shape, mask)

    @torch.no_grad()
    def reconstruct(
        self, frames: Int[Tensor, " frame"], masks: Float[Tensor, "layer frame 1 height width"] | None
    ) -> Image:
        """Frames as the fields give them.

        Args:
            frames: which.
            masks: of all layers in all frames; None with one layer.
        """
        return self._compose(frames, masks, self._images())

    def _images(self) -> tuple[Image, ...]:
        return tuple(layer.canonical.image(self.shape) for layer in self.layers)

    def _compose(
        self,
        frames: Int[Tensor, " frame"],
        masks: Float[Tensor, "layer frames 1 height width"] | None,
        images: Sequence[Float[Tensor, "1 3 canonical_height canonical_width"]],
    ) -> Float[Tensor, "frame 3 height width"]:
        size = (self.shape.height, self.shape.width)
        parts = [
            render_frames(image, self.offsets(number, frames, size), self.shape) for number, image in enumerate(images)
        ]
        if masks is None:
            return parts[0]
        return compose(parts, [mask[frames.to(mask.device)].to(self.device) for mask in masks])

    @torch.no_grad()
    def psnr(
        self,
        frames: UInt8[Tensor, "frame 3 height width"],
        masks: Float[Tensor, "layer frame 1 height width"] | None = None,
    ) -> Float[Tensor, " frame"]:
        """Fidelity of each frame in dB."""
        images = self._images()
        errors = [
            (self._compose(rows, masks, images) - frames[rows].to(self.device).float() / 255).square().mean((1, 2, 3))
            for rows in torch.arange(len(frames)).split(_CHUNK)
        ]
        return -10 * torch.cat(errors).clamp(min=1e-10).log10().cpu()

    def save(self, path: Path) -> None:
        """Write the fields, in one move.

        Raises:
            SessionError: if the disk refuses.
        """
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.parameters().items()}
        about = {"config": asdict(self.config), "shape": asdict(self.shape), "layers": len(self.layers)}
        data = save(tensors, metadata={"fit": json.dumps(about)})
        write_atomic(path, lambda file: file.write(data), hint="free some space, then run the same command again")

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "ClipFit":
        """Read the fields.

        Raises:
            SessionError: if the file is not one.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["fit"])
            fit = cls(FitConfig(**about["config"]), FieldShape(**about["shape"]), about["layers"], device)
            stored, own = load_file(path), fit.parameters()
            if {n: v.shape for n, v in stored.items()} != {n: v.shape for n, v in own.items()}:
                raise KeyError("other tensors than it says")
        except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
            raise SessionError(f"{path} is no fitted clip ({error}): fit the clip anew") from error
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(stored[name])
        return fit


def _make_layer(config: FitConfig, shape: FieldShape, device: torch.device, generator: torch.Generator) -> Layer:
    if config.field == "dense":
        cell = config.finest_cell or max(1.0, max(shape.height, shape.width) / _CELLS)
        deformation: DeformationField = DenseDeformation(shape, finest_cell=cell)
        canonical: CanonicalField = DenseCanonical(shape)
    elif config.field == "hash":
        grid = HashGridConfig(table_size=config.hash_table, kernel=config.hash_kernel)
        deformation = HashDeformation(shape, HashDeformationConfig(grid=grid), generator=generator)
        canonical = HashCanonical(
            shape, HashCanonicalConfig(grid=replace(grid, growth=HashCanonicalConfig().grid.growth))
        )
    else:
        deformation = FrequencyDeformation(shape, generator=generator)
        canonical = FrequencyCanonical(shape, generator=generator)
    return Layer(canonical=canonical.to(device), deformation=deformation.to(device))


def shape_for(frames: int, height: int, width: int, config: FitConfig) -> FieldShape:
    """Sizes of the fields of a clip.

    Args:
        frames: how many.
        height: rows of a frame.
        width: columns of a frame.
        config: says how far the canonical image exceeds a frame.
    """
    return FieldShape(frames=frames, height=height, width=width, margin=round(config.margin * max(height, width)))


def fit_clip(
    frames: UInt8[Tensor, "frame 3 height width"],
    flow: ClipFlow | None,
    masks: Float[Tensor, "layer frame 1 height width"] | None = None,
    config: FitConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    state_path: Path | None = None,
    save_every: int = 100,
    report: Callable[[FitProgress], None] | None = None,
    report_every: int = 20,
) -> ClipFit:
    """Fit a clip, or go on with an interrupted fit.

    Args:
        frames: at least 2, at working size.
        flow: between them; None = none is used.
        masks: share of each layer at every pixel, adding up to 1; None = one layer.
        config: how.
        device: where to compute.
        state_path: file that an interrupted fit goes on from; None = it would begin anew.
        save_every: steps between saves.
        report: told how it goes.
        report_every: steps between reports.

    Raises:
        SessionError: if the state file is of another fit.
        InputError: if there is no such reference frame.
    """
    config = config or FitConfig()
    count, _, height, width = frames.shape
    fit = ClipFit(config, shape_for(count, height, width, config), 1 if masks is None else len(masks), device)
    resumes = state_path is not None and state_path.is_file()
    if config.field == "dense" and not resumes:
        _start(fit, frames, flow, masks)
    loss = _Loss(fit, frames, flow, masks)
    began = time.monotonic()

    def tell(progress: OptimizeProgress) -> None:
        if report is not None:
            seconds = time.monotonic() - began
            report(FitProgress(step=progress.step, steps=progress.steps, psnr=loss.take_psnr(), seconds=seconds))

    rate = config.learning_rate or LEARNING_RATES[config.field]
    optimize(
        fit.parameters(),
        loss,
        OptimizeConfig(
            steps=config.steps,
            learning_rate=rate,
            warmup_steps=10,
            max_grad_norm=math.inf,
            ema_decay=0.0,
            seed=config.seed,
        ),
        state_path=state_path,
        identity=_identity(config, frames, flow, masks),
        save_every=save_every,
        report=tell,
        report_every=report_every,
    )
    return fit


def _identity(
    config: FitConfig,
    frames: UInt8[Tensor, "frame 3 height width"],
    flow: ClipFlow | None,
    masks: Float[Tensor, "layer frame 1 height width"] | None,
) -> str:
    """Tells a fit from every other one."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    motion = () if flow is None else (flow.forward, flow.forward_confident)
    for values in (frames, *motion, *(() if masks is None else (masks,))):
        digest.update(str(tuple(values.shape)).encode())
        digest.update(values.contiguous().cpu().numpy().data)
    return digest.hexdigest()


class _Loss:
    """The loss of one step over some frames, for all layers."""

    def __init__(
        self,
        fit: ClipFit,
        frames: UInt8[Tensor, "frame 3 height width"],
        flow: ClipFlow | None,
        masks: Float[Tensor, "layer frame 1 height width"] | None,
    ) -> None:
        self._fit, self._config = fit, fit.config
        self._frames = frames.to(fit.device)
        self._masks = None if masks is None else masks.to(fit.device)
        self._flow = None if flow is None or fit.config.flow_weight == 0 else flow.forward.to(fit.device)
        self._trusted = None if flow is None else flow.forward_confident.to(fit.device)
        self._centres = pixel_centres(fit.shape.height, fit.shape.width, device=fit.device)
        self._errors: list[Tensor] = []

    def take_psnr(self) -> float:
        """Of the frames seen since it was last asked."""
        mean = torch.stack(self._errors).mean().item()
        self._errors.clear()
        return -10 * math.log10(max(mean, 1e-10))

    def __call__(self, step: int, generator: torch.Generator) -> Tensor:
        config, count = self._config, len(self._frames)
        share = step / config.steps
        rows = torch.randint(count, (config.frames_per_step,), generator=generator, device=self._fit.device)
        truth = self._frames[rows].float() / 255
        total, error = truth.new_zeros(()), truth.new_zeros(())
        for number, layer in enumerate(self._fit.layers):
            mask = None if self._masks is None else self._masks[number][rows]
            offsets = layer.deformation.on_grid(rows, self._fit.shape.height, self._fit.shape.width, share)
            points = (self._centres + offsets).flatten(1, 2)
            colors = layer.canonical(points).transpose(1, 2).unflatten(2, truth.shape[-2:])
            color = color_loss(colors, truth, mask)
            total = total + color
            if config.gradient_weight:
                total = total + config.gradient_weight * gradient_loss(colors, truth, mask)
            if mask is not None:
                total = total + config.background_weight * color_loss(colors, truth, 1 - mask)
                color = ((colors - truth).square() * mask).mean()
            error = error + color.detach()
            if self._flow is not None and count > 1:
                total = total + config.flow_weight * self._flow_term(layer, offsets, rows, mask, share)
        self._errors.append(error)
        return total

    def _flow_term(
        self,
        layer: Layer,
        offsets: Float[Tensor, "frame height width 2"],
        rows: Int[Tensor, " frame"],
        mask: Float[Tensor, "frame 1 height width"] | None,
        share: float,
    ) -> Tensor:
        assert self._flow is not None and self._trusted is not None
        # The last frame has no next one: it takes part with no weight, which needs no look at the values.
        before = rows.clamp(max=len(self._frames) - 2)
        trusted = self._trusted[before].float() * (rows == before)[:, None, None]
        if mask is not None:
            trusted = trusted * mask[:, 0]
        return flow_loss(layer.deformation, offsets, before, self._flow[before], trusted, share)


def _start(
    fit: ClipFit,
    frames: UInt8[Tensor, "frame 3 height width"],
    flow: ClipFlow | None,
    masks: Float[Tensor, "layer frame 1 height width"] | None,
) -> None:
    """Dense fields: offsets from the flow to the reference frame, and its picture."""
    count, _, height, width = frames.shape
    reference = fit.config.reference
    reference = count // 2 if reference is None else reference
    if reference >= count:
        raise InputError(f"expected a reference frame from 0 to {count - 1} of each segment, got {reference}")
    picture = frames[reference : reference + 1].to(fit.device).float() / 255
    chained = None if flow is None else chain_flow(flow, reference)
    for number, layer in enumerate(fit.layers):
        assert isinstance(layer.canonical, DenseCanonical) and isinstance(layer.deformation, DenseDeformation)
        layer.canonical.start_from(picture)
        if chained is None:
            continue
        # A pixel that the flow loses on its way begins with the offset of its surroundings.
        trust = chained.valid[:, None].float().clamp(min=1e-3)
        if masks is not None:
            trust = trust * masks[number].clamp(min=1e-3).cpu()
        scale = chained.displacement.new_tensor([width, height]).view(1, 2, 1, 1)
        layer.deformation.start_from(chained.displacement / scale, trust)
