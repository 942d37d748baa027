"""The aliases are shapes that are really checked, one meaning each."""

from typing import get_args

import pytest
import torch

from maskedit.editors.core import types

RIGHT = {
    "Image": torch.zeros(2, 3, 8, 16),
    "Mask": torch.zeros(2, 1, 8, 16),
    "Latents": torch.zeros(2, 4, 8, 16),
    "LatentMask": torch.zeros(2, 1, 8, 16),
    "PromptEmbeds": torch.zeros(2, 77, 32),
    "TokenIds": torch.zeros(2, 77, dtype=torch.long),
}
WRONG = {
    "Image": torch.zeros(2, 8, 16, 3),
    "Mask": torch.zeros(2, 8, 16),
    "Latents": torch.zeros(4, 8, 16),
    "LatentMask": torch.zeros(2, 1, 8, 16, dtype=torch.bool),
    "PromptEmbeds": torch.zeros(77, 32),
    "TokenIds": torch.zeros(2, 77),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_tensors_match(name: str) -> None:
    assert isinstance(RIGHT[name], getattr(types, name))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tensors_do_not(name: str) -> None:
    assert not isinstance(WRONG[name], getattr(types, name))


def test_timesteps_may_be_whole_or_not() -> None:
    floats, ints = get_args(types.Timesteps)
    assert isinstance(torch.linspace(999, 0, 5), floats)
    assert isinstance(torch.arange(5), ints)
