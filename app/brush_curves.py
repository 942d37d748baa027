"""Loss curves of a brush as one drawing that any browser shows: a line for each segment, and what is held out."""

import math
from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

_WIDTH, _HEIGHT, _LEFT, _EDGE = 720, 360, 56, 24
_COLORS = ("#3366cc", "#109618", "#ff9900", "#990099", "#dc3912", "#0099c6", "#66aa00", "#b82e2e")
_SMOOTHED = 50
"""Points of a curve: the mean of as many equal stretches of steps."""


def draw_curves(curve: Float[Tensor, "steps segments"], held_out: Mapping[int, float]) -> str:
    """A page with a drawing of the mean loss by step.

    Args:
        curve: loss of each segment at every step; NaN counts as not taken.
        held_out: mean loss of the pairs held out by step.
    """
    steps, count = curve.shape
    stretch = max(1, math.ceil(steps / _SMOOTHED))
    ends = [min(steps, start + stretch) for start in range(0, steps, stretch)]
    lines: dict[str, list[tuple[int, float]]] = {}
    for segment in range(count):
        means = [float(part.nanmean()) for part in curve[:, segment].split(stretch)]
        own = [(end, mean) for end, mean in zip(ends, means, strict=True) if math.isfinite(mean)]
        lines[f"segment {segment}" + (" (cleanest)" if segment == 0 < count - 1 else "")] = own
    if held_out:
        lines["held out"] = sorted(held_out.items())
    values = [value for points in lines.values() for _, value in points]
    top = 1.05 * max(values, default=1.0) or 1.0
    parts = [
        '<!DOCTYPE html>\n<html><head><meta charset="utf-8"/><title>Losses</title></head><body>',
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_axes(steps, top),
    ]
    for number, (name, points) in enumerate(lines.items()):
        color = "black" if name == "held out" else _COLORS[number % len(_COLORS)]
        dashes = ' stroke-dasharray="5 3"' if name == "held out" else ""
        path = " ".join(f"{_across(step, steps):.1f},{_down(value, top):.1f}" for step, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dashes}/>')
        parts.append(f'<text x="{_WIDTH - 130}" y="{_EDGE + 14 * number}" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg></body></html>"]) + "\n"


def _axes(steps: int, top: float) -> Sequence[str]:
    parts: list[str] = []
    for part in range(5):
        value, step = top * part / 4, round(steps * part / 4)
        down, across = _down(value, top), _across(step, steps)
        right = _WIDTH - _EDGE
        parts.append(f'<line x1="{_LEFT}" y1="{down:.1f}" x2="{right}" y2="{down:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        parts.append(f'<text x="{across:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{step}</text>')
    return parts


def _across(step: int, steps: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _EDGE) * step / max(1, steps)


def _down(value: float, top: float) -> float:
    return _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * value / top
