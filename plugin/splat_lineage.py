"""Which Gaussian descends from which: densification makes, splits and removes them, and what one was told outlives it.

Every Gaussian has a number of its own. When one is copied or split, one of the two keeps the number and the other gets
a new one, whose parent is remembered. So something that was noted about the Gaussians of any earlier step can be
handed to those of today, also after a checkpoint was read.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

Numbers = Int[Tensor, " gaussians"]


class Lineage:
    """The numbers of the Gaussians and the parents of those that were born.

    Args:
        count: Gaussians at the beginning; they have no parents.
        device: where the numbers lie.
    """

    def __init__(self, count: int, device: torch.device | str = "cpu") -> None:
        self.founders = count
        self.numbers: Tensor = torch.arange(count, device=device)
        self._parents: Tensor = torch.zeros(0, dtype=torch.long, device=device)

    def to(self, device: torch.device | str) -> None:
        """Move the numbers, as the Gaussians were."""
        self.numbers, self._parents = self.numbers.to(device), self._parents.to(device)

    def follow(self, rows: Numbers) -> None:
        """Note that the Gaussians have changed.

        Args:
            rows: for each Gaussian of now, which one it was before, or comes from.
        """
        numbers = self.numbers[rows]
        order = torch.argsort(rows, stable=True)
        is_repeated = torch.zeros_like(rows, dtype=torch.bool)
        is_repeated[order[1:]] = rows[order][1:] == rows[order][:-1]
        born = int(is_repeated.sum())
        first = self.founders + len(self._parents)
        self._parents = torch.cat([self._parents, numbers[is_repeated]])
        numbers[is_repeated] = torch.arange(first, first + born, device=numbers.device)
        self.numbers = numbers

    def rows_in(self, numbers: Int[Tensor, " then"]) -> Numbers:
        """For each Gaussian of now, the place of itself or its nearest ancestor among those of another time.

        Args:
            numbers: the Gaussians of that time.

        Returns:
            Places in `numbers`; -1 = neither it nor an ancestor was there.
        """
        ever = max(self.founders + len(self._parents), int(numbers.max()) + 1 if len(numbers) else 0)
        place = torch.full((ever,), -1, device=self.numbers.device)
        place[numbers.to(place.device)] = torch.arange(len(numbers), device=place.device)
        ancestors = self.numbers.clone()
        while bool((missing := (place[ancestors] < 0) & (ancestors >= self.founders)).any()):
            ancestors[missing] = self._parents[ancestors[missing] - self.founders]
        return place[ancestors]

    def state(self) -> dict[str, int | Tensor]:
        """For a checkpoint."""
        return {"founders": self.founders, "numbers": self.numbers, "parents": self._parents}

    def restore(self, state: Mapping[str, int | Tensor]) -> None:
        """Set it to what a checkpoint holds."""
        numbers, parents = state["numbers"], state["parents"]
        self.founders = int(state["founders"])
        self.numbers = torch.as_tensor(numbers).to(self.numbers.device)
        self._parents = torch.as_tensor(parents).to(self._parents.device)
