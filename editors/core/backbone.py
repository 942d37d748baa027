"""Holds the networks of one checkpoint: UNet, autoencoder, text encoder, tokenizer, noise schedule.

Any checkpoint of the Stable Diffusion family in diffusers layout loads, from safetensors only. This is the only file
that knows [-1, 1], the autoencoder's scale, devices and dtypes. Conditions are cached: a picture or a text is encoded
once, however many edits use it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .caching import Remembered, picture_key
from .checkpoint import (
    BackboneConfig,
    CheckpointKind,
    CheckpointPreset,
    check_kind,
    has_language_model,
    load_preset,
    locate_checkpoint,
)
from .errors import InputError, ModelError
from .input_features import InputFeatures, add_input_features, prepare_input_features
from .loading import fetch_checkpoint, load_configuration, load_network, quiet_loading
from .types import Branch, Image, Latents, PromptEmbeds, TokenIds

_CACHE_ENTRIES = 1024


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What every UNet call of one denoising run is conditioned on, branches lying one after another."""

    branches: tuple[Branch, ...]
    embeds: PromptEmbeds
    """Text of all branches, branch-major."""
    channels: Latents | None
    """What the UNet reads beside the noisy latents, branch-major; None for text-to-image UNets."""
    features: InputFeatures | None = None
    """What is added behind the UNet's first convolution, branch-major; None = nothing."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Configurations of the networks of a checkpoint, to build it without weights."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    scheduler: Mapping[str, Any]


class Backbone:
    """The networks of a checkpoint, ready to encode, predict noise and decode."""

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer | None,
        scheduler_config: Mapping[str, Any],
        preset: CheckpointPreset | None = None,
        name: str = "",
        origin: BackboneConfig | None = None,
        told: bool = False,
    ) -> None:
        """Hold networks that are already on their device; use `load` or `build` to make one."""
        self.unet, self.vae, self.text_encoder, self._tokenizer = unet, vae, text_encoder, tokenizer
        self.scheduler_config = dict(scheduler_config)
        self.preset = preset or CheckpointPreset()
        self.name = name
        self.origin = origin or BackboneConfig()
        """Where it was loaded from: what else an editor needs is looked for there, too."""
        self.told = told
        """Whether a language model tells the UNet what to do, so that it knows no texts."""
        self.counts: Counter[str] = Counter()
        """How often each network really ran: `image` and `text` count encoded items, `unet` calls, `decode` items."""
        self._texts: Remembered[Tensor] = Remembered(_CACHE_ENTRIES)
        self._images: Remembered[Tensor] = Remembered(_CACHE_ENTRIES)
        for network in (unet, vae, text_encoder):
            network.requires_grad_(False).eval()

    @classmethod
    def load(cls, config: BackboneConfig, kind: CheckpointKind = "instruct-pix2pix") -> "Backbone":
        """Load a checkpoint.

        Args:
            config: names it.
            kind: what the editor needs; matters only where the configuration leaves open which checkpoint is meant.

        Raises:
            ModelError: if it is missing, incomplete, or has only pickle weights.
        """
        device, dtype = resolve_device(config.device, config.dtype)
        location = locate_checkpoint(config, kind)
        keep_bars = isinstance(location, str)
        if kind == "smartedit":
            # It says in a file of its own what it builds on.
            location = fetch_checkpoint(location, config)
        with quiet_loading(keep_bars=keep_bars):
            unet = load_network(UNet2DConditionModel, "unet", location, config, torch_dtype=dtype)
            vae = load_network(AutoencoderKL, "vae", location, config, torch_dtype=dtype)
            text_encoder = load_network(CLIPTextModel, "text_encoder", location, config, dtype=dtype)
            tokenizer = load_configuration(CLIPTokenizer, "from_pretrained", "tokenizer", location, config)
            scheduler = load_configuration(DDIMScheduler, "load_config", "scheduler", location, config)
        backbone = cls(
            unet=unet.to(device),
            vae=vae.to(device),
            text_encoder=text_encoder.to(device),
            tokenizer=tokenizer,
            scheduler_config=scheduler,
            preset=load_preset(location),
            name=config.model_for(kind),
            origin=config,
            told=has_language_model(location),
        )
        if config.compile:
            prepare_input_features(backbone.unet)
            backbone.unet.compile()
        return backbone

    @classmethod
    def build(
        cls,
        architecture: Architecture,
        *,
        device: str = "auto",
        dtype: str = "auto",
        tokenizer: CLIPTokenizer | None = None,
    ) -> "Backbone":
        """Build an architecture with random weights; on the device `meta` it takes no memory at all."""
        place, precision = resolve_device(device, dtype)
        with torch.device(place):
            unet = UNet2DConditionModel.from_config(dict(architecture.unet))
            vae = AutoencoderKL.from_config(dict(architecture.vae))
            text_encoder = CLIPTextModel(CLIPTextConfig(**architecture.text_encoder))
        for network in (unet, vae, text_encoder):
            # diffusers' own `to` warns at every cast of a network, whether or not any module objects to it.
            torch.nn.Module.to(network, dtype=precision)
        return cls(
            unet=unet,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler_config=architecture.scheduler,
            name="random weights",
        )

    @property
    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer.

        Raises:
            ModelError: if the backbone was built without one.
        """
        if self._tokenizer is None:
            raise ModelError("this backbone was built without a tokenizer: pass one to `Backbone.build`")
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the UNet."""
        return self.unet.dtype

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along each axis."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def native_size(self) -> int:
        """Side in pixels of the pictures the UNet was trained on."""
        return int(self.unet.config.sample_size) * self.vae_scale_factor

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.vae.config.latent_channels)

    def require(self, kind: CheckpointKind, editor: str) -> None:
        """Refuse a checkpoint of another kind than an editor needs.

        Raises:
            ModelError: unless the UNet has as many input channels as that kind, or if a language model tells it and the
                editor has none.
        """
        channels = int(self.unet.config.in_channels)
        check_kind(kind, editor, channels, self.latent_channels, self.name, told=self.told)

    def embed(self, texts: Sequence[str]) -> PromptEmbeds:
        """Hidden states of texts; each text is encoded once.

        Raises:
            InputError: if a text has more tokens than the encoder reads; the rest would be dropped silently.
        """
        length = self.tokenizer.model_max_length
        rows: list[Tensor] = []
        for text in texts:
            ids = self.tokenizer(
                text, padding="max_length", max_length=length, return_tensors="pt", verbose=False
            ).input_ids
            if ids.shape[1] > length:
                raise InputError(
                    f"expected at most {length - 2} tokens of text, got {ids.shape[1] - 2}: shorten {text[:40]!r}..."
                )
            rows.append(self.embed_ids(ids))
        return torch.cat(rows)

    def embed_ids(self, ids: TokenIds, *, keep: bool = True) -> PromptEmbeds:
        """Hidden states of rows of token ids; each row is encoded once.

        Args:
            ids: one row for each text.
            keep: whether to remember the result; otherwise all rows are encoded at once.
        """
        if not keep:
            return self._run_text(ids)
        return torch.cat(
            [self._texts.get(tuple(row.tolist()), lambda row=row: self._run_text(row[None])) for row in ids]
        )

    @torch.no_grad()
    def _run_text(self, ids: Tensor) -> Tensor:
        self.counts["text"] += len(ids)
        return self.text_encoder(ids.to(self.text_encoder.device)).last_hidden_state.to(self.dtype)

    def encode(self, image: Image, *, keep: bool = True, at_once: bool = False) -> Latents:
        """Unscaled latents (posterior mode) of pictures, as InstructPix2Pix conditions on; each is encoded once.

        Pictures are encoded one by one: the last bits depend on what shares a batch, and a run that resumes must get
        the same ones whatever it still remembers.

        Args:
            image: pictures with sides in multiples of `vae_scale_factor`.
            keep: whether to remember the result; not worth it for a render, which never comes again.
            at_once: whether they share a batch all the same, and are not remembered: faster, as training needs it.

        Raises:
            ModelError: if the sides are no multiples of `vae_scale_factor`.
        """
        factor = self.vae_scale_factor
        if image.shape[-2] % factor or image.shape[-1] % factor:
            size = f"{image.shape[-1]}x{image.shape[-2]}"
            raise ModelError(
                f"expected pictures with sides in multiples of {factor} pixels, got {size}: pad them first"
            )
        if at_once:
            return self._run_encoder(image)
        if not keep:
            return torch.cat([self._run_encoder(row[None]) for row in image])
        return torch.cat(
            [self._images.get(picture_key(row), lambda row=row: self._run_encoder(row[None])) for row in image]
        )

    @torch.no_grad()
    def _run_encoder(self, image: Tensor) -> Tensor:
        self.counts["image"] += len(image)
        pixels = (image.to(self.vae.device, self.vae.dtype)) * 2 - 1
        return self.vae.encode(pixels).latent_dist.mode().to(self.dtype)

    def scale_latents(self, latents: Latents) -> Latents:
        """From the autoencoder's latents to those the diffusion runs on, in float32.

        A run adds up dozens of small steps, each of which half precision would round.
        """
        return latents.float() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Latents) -> Image:
        """Pictures of scaled latents, clamped to [0, 1], in float32."""
        self.counts["decode"] += len(latents)
        pixels = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype)).sample
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    def condition(
        self,
        branches: tuple[Branch, ...],
        text: Float[Tensor, "#batch tokens width"],
        image: Latents | None = None,
        *,
        batch: int | None = None,
    ) -> Conditioning:
        """The usual conditions: the prompt for `text` and none for the others; no picture for `uncond`.

        Args:
            branches: guidance branches of each UNet call.
            text: hidden states of the prompt, one row or one per picture.
            image: unscaled latents of the condition pictures; required by InstructPix2Pix UNets.
            batch: number of pictures, where neither text nor image tells; None = as many as the longer of them.
        """
        batch = batch or (len(text) if image is None else len(image))
        empty = self.embed([""])
        texts: dict[Branch, Tensor] = {branch: text if branch == "text" else empty for branch in branches}
        if image is None:
            return self.lay_out(texts, batch=batch)
        zeros = torch.zeros_like(image)
        return self.lay_out(texts, {branch: zeros if branch == "uncond" else image for branch in branches}, batch=batch)

    def lay_out(
        self,
        texts: Mapping[Branch, Float[Tensor, "_ tokens width"]],
        channels: Mapping[Branch, Latents] | None = None,
        *,
        batch: int,
        features: Mapping[Branch, Float[Tensor, "_ features latent_height latent_width"]] | None = None,
    ) -> Conditioning:
        """Put any conditions of any branches in the order of the batch.

        Args:
            texts: hidden states of each branch's text, one row or one per picture.
            channels: what the UNet reads beside the noisy latents, for each branch.
            batch: number of pictures.
            features: what is added behind the UNet's first convolution in each branch, one row or one per picture.
        """
        return Conditioning(
            branches=tuple(texts),
            embeds=torch.cat([text.expand(batch, -1, -1) for text in texts.values()]),
            channels=None if channels is None else torch.cat([channels[branch] for branch in texts]).to(self.dtype),
            features=None
            if features is None
            else torch.cat([features[branch].expand(batch, -1, -1, -1) for branch in texts]),
        )

    def predict(self, latents: Latents, timestep: Tensor, conditioning: Conditioning) -> dict[Branch, Latents]:
        """The UNet's output for every branch, from ONE call.

        Args:
            latents: model input, one row per picture.
            timestep: training timestep, one for all or one per picture.
            conditioning: from `condition`.
        """
        self.counts["unet"] += 1
        count = len(conditioning.branches)
        repeated = latents.to(self.dtype).repeat(count, 1, 1, 1)
        if conditioning.channels is not None:
            repeated = torch.cat([repeated, conditioning.channels], 1)
        times = timestep.expand(len(latents)).repeat(count)
        features = conditioning.features
        with nullcontext() if features is None else add_input_features(self.unet, features):
            predicted = self.unet(repeated, times, encoder_hidden_states=conditioning.embeds, return_dict=False)[0]
        return dict(zip(conditioning.branches, predicted.chunk(count), strict=True))


def resolve_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """The device and precision a configuration means.

    Raises:
        ModelError: if the device is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"expected a device such as cpu or cuda, got {device!r}") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"device {device!r} was asked for, but this machine has no CUDA device: ask for the device cpu"
        )
    if dtype == "auto":
        dtype = "float16" if place.type == "cuda" else "float32"
    return place, getattr(torch, dtype)
