"""Comparing the settings of a run that goes on with those its session began with."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(began: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Names and both values of settings that differ, options within options as well.

    A session that was begun by an older version does not know every setting of today's, so only shared ones count.
    """
    for name in sorted(began.keys() & given.keys()):
        was, now = began[name], given[name]
        if isinstance(was, dict) and isinstance(now, dict):
            yield from ((f"{name}: {inner}", one, other) for inner, one, other in differences(was, now))
        elif was != now:
            yield name, was, now
