"""Features added to what a UNet makes of its input, right behind its first convolution.

The UNet reads them nowhere else, so that features of zero are the same as none, bit for bit.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeAlias

from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from .errors import ModelError

InputFeatures: TypeAlias = Float[Tensor, "batch features latent_height latent_width"]
"""One row per picture and branch; as many channels as the UNet's first level."""


class _Adder:
    """A hook that stays where it is, so that a compiled UNet, which does not see hooks come and go, runs it too."""

    def __init__(self) -> None:
        self.features: InputFeatures | None = None

    def __call__(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        features = self.features
        if features is None:
            return output
        if features.shape != output.shape:
            raise ModelError(
                f"expected input features of shape {tuple(output.shape)}, got {tuple(features.shape)}: make them for "
                "this UNet and this size of picture"
            )
        return output + features.to(output.dtype)


def prepare_input_features(unet: UNet2DConditionModel) -> _Adder:
    """Let a UNet take input features; to be called before it is compiled, and harmless at any other time."""
    for hook in unet.conv_in._forward_hooks.values():  # pyright: ignore[reportPrivateUsage]
        if isinstance(hook, _Adder):
            return hook
    adder = _Adder()
    unet.conv_in.register_forward_hook(adder)
    return adder


@contextmanager
def add_input_features(unet: UNet2DConditionModel, features: InputFeatures | None) -> Generator[None]:
    """Add features behind a UNet's first convolution for the length of a `with` block, in place of those outside it.

    Args:
        unet: any UNet of the Stable Diffusion family.
        features: one row for each row of its batch; None = nothing is added.

    Raises:
        ModelError: in the UNet's call, if their shape is not that of what they are added to.
    """
    adder = prepare_input_features(unet)
    outer, adder.features = adder.features, features
    try:
        yield
    finally:
        adder.features = outer
