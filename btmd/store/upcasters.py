"""How the data of an old event becomes that of its type's present version, one version at a time."""

from collections.abc import Callable
from typing import Any

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""By type name and the version it starts from; the result has that version plus one."""


def upcast(type_name: str, from_version: int, to_version: int, data: dict[str, Any]) -> dict[str, Any]:
    """Lift ``data`` step by step to ``to_version``. Raises LookupError where a step is missing."""
    for version in range(from_version, to_version):
        step = UPCASTERS.get((type_name, version))
        if step is None:
            raise LookupError(f"no upcaster for {type_name} from version {version}")
        data = step(data)
    return data
