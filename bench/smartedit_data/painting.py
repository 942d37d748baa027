"""Segmentation as editing: "lay a colour over an object" makes an edit of any picture with a mask.

SmartEdit (arXiv 2312.06739) takes this from InstructDiffusion (arXiv 2309.03895): one of 11 phrasings, one of 8
colours, and as target the picture with the colour half over it inside the mask. The phrasings are our own.

Differs from the published code: colours are laid over the picture at its own size, before it is brought to the model's.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...editors import Sample

TEMPLATES = (
    "Tint {object} {color} and touch nothing else.",
    "Lay {color} over {object}; everything around it stays as it was.",
    "Give {object} a {color} overlay while other regions keep their look.",
    "Highlight {object} in {color}, with no change to what lies beside it.",
    "Where the picture shows {object}, blend in {color}; elsewhere, do nothing.",
    "Wash {color} over {object} but let the remaining picture be.",
    "Shade only {object}, and shade it {color}.",
    "Put a {color} layer on {object} and spare its surroundings.",
    "Let the area of {object} turn {color}, the background being kept.",
    "Point out {object} with {color}; no other place may differ.",
    "Recolour {object} towards {color} and stop at its outline.",
)
"""Phrasings of the edit."""
COLORS = {
    "red": (255, 0, 0),
    "purple": (128, 0, 128),
    "blue": (0, 0, 255),
    "green": (0, 128, 0),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
}
"""Colours, in levels of 0..255."""
OPACITY = 0.5
"""Share of the colour inside the mask."""


def paint(
    image: Float[Tensor, "3 height width"], mask: Bool[Tensor, "height width"], color: str
) -> Float[Tensor, "3 height width"]:
    """A picture with a colour half over it inside a mask; outside it is the same, bit for bit.

    Args:
        image: RGB in [0, 1].
        mask: where.
        color: a name of `COLORS`.
    """
    tint = torch.tensor(COLORS[color], dtype=image.dtype).view(3, 1, 1) / 255
    return torch.where(mask, (1 - OPACITY) * image + OPACITY * tint, image)


def choose(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of some texts, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def painting_sample(
    image: Float[Tensor, "3 height width"],
    mask: Bool[Tensor, "height width"],
    phrase: str,
    rng: np.random.Generator,
    *,
    before: str = "",
) -> Sample:
    """The edit that colours what a phrase names.

    Args:
        image: RGB in [0, 1].
        mask: what the phrase names.
        phrase: names it.
        rng: draws the phrasing and the colour.
        before: is said first, such as a question that tells which object is meant.
    """
    template, color = choose(TEMPLATES, rng), choose(tuple(COLORS), rng)
    text = template.format(object=phrase.strip().rstrip(".").lower(), color=color)
    return Sample(text=f"{before.strip()} {text}".strip(), image=image, target=paint(image, mask, color))
