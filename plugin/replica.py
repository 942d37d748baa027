"""A second copy of the scene, for edits that are made while the scene itself goes on training.

The replica is a model of the same class on a device of its own. It is built once; then only weights, and the plain
numbers that rendering depends on (nerfacto's annealing, splatfacto's degree of harmonics), are copied into it. That is
all a training step ever waits for.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..editors import wait_for
from .scene import SceneRenderer, ViewRender
from .working_set import EditedPhotos

PLAIN = (bool, int, float, np.number)


class SceneReplica:
    """A copy of the scene that trains.

    Args:
        model: the scene that trains, built by its config.
        data: the cameras that look at it.
        device: where the replica lives.
    """

    def __init__(self, model: Any, data: EditedPhotos, device: torch.device | str) -> None:
        self.model = model
        photos = data.train_dataset
        self.replica: nn.Module = model.config.setup(
            scene_box=photos.scene_box,
            num_train_data=len(photos),
            metadata=photos.metadata,
            device=str(device),
            grad_scaler=None,
            seed_points=None,
        )
        self.replica.to(device).requires_grad_(False).eval()
        self._renderer = SceneRenderer(self.replica, data)

    def copy(self) -> float:
        """Bring the replica up to date; on return it depends on nothing that trains.

        Returns:
            Seconds it took; that the training step before was finished first does not count.
        """
        wait_for(self.model.device)
        started = time.monotonic()
        copy_model(self.model, self.replica)
        # The devices work off what is queued: without waiting, a training step could overtake the copy.
        wait_for(self.model.device, self._renderer.model.device)
        return time.monotonic() - started

    def render(self, view: int) -> ViewRender:
        """The replica as a camera of the working set sees it."""
        return self._renderer.render(view)


@torch.no_grad()
def copy_model(source: nn.Module, target: nn.Module) -> None:
    """Make a model of the same class render what another renders.

    Args:
        source: is left as it is.
        target: its tensors keep their device; those whose shape differs, as Gaussians that were split, are replaced.
    """
    copy_numbers(source, target)
    for module, other in _pairs(source, target):
        for key, tensor in module._parameters.items():
            other._parameters[key] = _copied(tensor, other._parameters.get(key))
        for key, tensor in module._buffers.items():
            other._buffers[key] = _copied(tensor, other._buffers.get(key))


def copy_numbers(source: nn.Module, target: nn.Module) -> None:
    """Take over the plain numbers that rendering depends on, and no tensors; the source may be training meanwhile."""
    for module, other in _pairs(source, target):
        # A list, because a source that trains may gain attributes while it is read.
        for key, value in list(vars(module).items()):
            if isinstance(value, PLAIN) and key != "training":
                setattr(other, key, value)


def _pairs(source: nn.Module, target: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Modules that stand in the same place of two models of one class."""
    # A module may stand in two places, and in the source in other ones: losses are exchanged as a run goes on.
    modules = dict(target.named_modules(remove_duplicate=False))
    for name, module in source.named_modules(remove_duplicate=False):
        # Only losses are made later than the model, and nothing is rendered with them.
        if name in modules:
            yield module, modules[name]


def _copied(source: Tensor | None, target: Tensor | None) -> Any:
    """The target with the values of the source, or a new one where the shapes differ."""
    if source is None or target is None:
        return source
    if source.shape == target.shape:
        return target.copy_(source)
    fresh = source.detach().to(target.device, copy=True)
    return nn.Parameter(fresh, requires_grad=False) if isinstance(target, nn.Parameter) else fresh
