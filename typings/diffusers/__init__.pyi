"""Everything here is of unknown type: the library's annotations deny what its loaders, configs and outputs return."""

from typing import Any

def __getattr__(name: str) -> Any: ...
