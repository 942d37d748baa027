"""All canonical images of a clip in one picture, so that one edit changes them alike.

Edited one by one, layers and segments come out in different styles; published code leaves that to its users.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..editors import Image
from .canonical import fill_unseen

GUTTER = 8
"""Pixels between neighbours."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Pictures laid out in one, and where they lie."""

    image: Image
    """All pictures; what lies between them is in the smoothed colours of what surrounds it."""
    places: tuple[tuple[slice, slice], ...]
    """Rows and columns of each picture."""

    def apart(self, values: Float[Tensor, "1 channels height width"]) -> tuple[Float[Tensor, "1 channels _ _"], ...]:
        """What lies at the place of each picture.

        Args:
            values: as large as the sheet: the sheet edited, or a mask of it.

        Raises:
            ValueError: if it is of another size.
        """
        if values.shape[-2:] != self.image.shape[-2:]:
            (height, width), (own, across) = values.shape[-2:], self.image.shape[-2:]
            raise ValueError(f"expected something as large as the sheet, {across}x{own}, got {width}x{height}")
        return tuple(values[:, :, rows, columns] for rows, columns in self.places)

    def join(self, parts: Sequence[Float[Tensor, "1 channels _ _"]]) -> Float[Tensor, "1 channels height width"]:
        """Values for all pictures at their places, and 0 between them.

        Args:
            parts: one for each picture, as large as it.
        """
        whole = parts[0].new_zeros(1, parts[0].shape[1], *self.image.shape[-2:])
        for part, (rows, columns) in zip(parts, self.places, strict=True):
            whole[:, :, rows, columns] = part
        return whole


def lay_out(pictures: Sequence[Float[Tensor, "1 3 _ _"]], *, gutter: int = GUTTER) -> Sheet:
    """Put pictures on a grid that is as square as possible; a single one stays as it is.

    Args:
        pictures: of any sizes, at least one.
        gutter: pixels between neighbours.
    """
    sizes = [(picture.shape[-2], picture.shape[-1]) for picture in pictures]
    grids = [_grid(sizes, columns, gutter) for columns in range(1, len(sizes) + 1)]
    places, (height, width) = min(grids, key=lambda grid: (max(grid[1]), grid[1][0] * grid[1][1]))
    sheet = Sheet(image=pictures[0].new_zeros(1, 3, height, width), places=places)
    covered = sheet.join([picture.new_ones(1, 1, *picture.shape[-2:]) for picture in pictures]) > 0
    return Sheet(image=fill_unseen(sheet.join(pictures), covered), places=places)


def _grid(
    sizes: Sequence[tuple[int, int]], columns: int, gutter: int
) -> tuple[tuple[tuple[slice, slice], ...], tuple[int, int]]:
    """Places on a grid with so many columns, and the size of the whole."""
    rows = [range(start, min(start + columns, len(sizes))) for start in range(0, len(sizes), columns)]
    heights = [max(sizes[each][0] for each in row) for row in rows]
    widths = [max(sizes[each][1] for each in range(column, len(sizes), columns)) for column in range(columns)]
    places: list[tuple[slice, slice]] = []
    for number, (height, width) in enumerate(sizes):
        row, column = divmod(number, columns)
        top, left = sum(heights[:row]) + row * gutter, sum(widths[:column]) + column * gutter
        places.append((slice(top, top + height), slice(left, left + width)))
    whole = (sum(heights) + (len(rows) - 1) * gutter, sum(widths) + (columns - 1) * gutter)
    return tuple(places), whole
