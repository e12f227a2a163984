"""The registry of event types, and who caused an event.

A stored type name is an explicit string, never a Python path, so that code can move without touching rows
that were written years before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, dataclass_transform

EVENT_TYPES: dict[str, type["Event"]] = {}


class Event:
    """A fact. Subclasses are frozen dataclasses registered by :func:`event`."""

    __slots__ = ()
    TYPE: ClassVar[str]
    SCHEMA_VERSION: ClassVar[int]
    IS_TICK: ClassVar[bool]


@dataclass_transform(frozen_default=True)
def event(type_name: str, *, version: int = 1, tick: bool = False) -> Callable[[type[Any]], type[Any]]:
    """Register a frozen dataclass as the event ``type_name``; ``tick`` puts it into the tick table."""

    def register(cls: type[Any]) -> type[Any]:
        made: Any = dataclass(frozen=True)(cls)
        if type_name in EVENT_TYPES:
            raise ValueError(f"the event type {type_name} is registered twice")
        made.TYPE, made.SCHEMA_VERSION, made.IS_TICK = type_name, version, tick
        EVENT_TYPES[type_name] = made
        return made  # type: ignore[no-any-return]

    return register


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked: the credentials of the peer on the socket, or of the daemon itself.

    ``uid``, ``gid`` and ``groups`` are the kernel's numbers; ``name`` is for people (user name, ``daemon``, ``file``).
    """

    uid: int
    gid: int
    pid: int
    groups: tuple[int, ...] = ()
    name: str = ""
