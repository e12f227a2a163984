"""The registry of event types, and who caused an event.

A stored type name is an explicit string, never a Python path, so that code can move without touching rows
that were written years before.
"""

from collections.abc import Callable
from typing import ClassVar, TypeVar

from msgspec import Struct

EVENT_TYPES: dict[str, type["Event"]] = {}


class Event(Struct, frozen=True):
    """A fact. Subclasses are frozen, and registered by :func:`event`."""

    TYPE: ClassVar[str]
    SCHEMA_VERSION: ClassVar[int]
    IS_TICK: ClassVar[bool]


Fact = TypeVar("Fact", bound=type[Event])


def event(type_name: str, *, version: int = 1, tick: bool = False) -> Callable[[Fact], Fact]:
    """Register a class as the event ``type_name``; ``tick`` puts it into the tick table."""

    def register(cls: Fact) -> Fact:
        if type_name in EVENT_TYPES:
            raise ValueError(f"the event type {type_name} is registered twice")
        cls.TYPE, cls.SCHEMA_VERSION, cls.IS_TICK = type_name, version, tick
        EVENT_TYPES[type_name] = cls
        return cls

    return register


class Actor(Struct, frozen=True):
    """Who asked: the credentials of the peer on the socket, or of the daemon itself.

    ``uid``, ``gid`` and ``groups`` are the kernel's numbers; ``name`` is for people (user name, ``daemon``, ``file``).
    """

    uid: int
    gid: int
    pid: int
    groups: tuple[int, ...] = ()
    name: str = ""
