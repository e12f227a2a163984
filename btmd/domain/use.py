"""What is done with a job's result: taking it away, and talking with it. Never a word of what was said."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from btmd.domain.dataset import ConsentGranted, ConsentRevoked, DatasetAdded, DatasetErased, DatasetRemoved
from btmd.domain.event import Event, event


@event("JobExported")
class JobExported(Event, frozen=True):
    """A result was written in one of its forms, read again and compared, and handed to who asked.

    ``files``: path, size in bytes and SHA-256 of each. ``check``: the comparison in figures, empty for a model card.
    """

    job_id: str
    export_id: str
    format: str
    quant: str
    by_uid: int
    files: tuple[dict[str, Any], ...]
    check: dict[str, Any] = field(default_factory=dict)


@event("JobTalkedWith")
class JobTalkedWith(Event, frozen=True):
    """Somebody asked a model. ``which``: base or tuned; ``turns``: messages so far; ``tokens``: of the answer."""

    job_id: str
    which: str
    by_uid: int
    turns: int
    tokens: int
    answered: bool = True


class RecordExport(Struct, frozen=True):
    job_id: str
    export_id: str
    format: str
    quant: str
    by_uid: int
    files: tuple[dict[str, Any], ...]
    check: dict[str, Any] = field(default_factory=dict)


class RecordTalk(Struct, frozen=True):
    job_id: str
    which: str
    by_uid: int
    turns: int
    tokens: int
    answered: bool


UseCommand = RecordExport | RecordTalk


class UseState(Struct, frozen=True):
    """How often each was done."""

    exports: int = 0
    talks: int = 0


def stream_name(job_id: str) -> str:
    return f"use-{job_id}"


def stream(command: UseCommand) -> str:
    return stream_name(command.job_id)


def decide(command: UseCommand, state: UseState | None) -> list[Event]:
    if isinstance(command, RecordExport):
        return [
            JobExported(
                command.job_id,
                command.export_id,
                command.format,
                command.quant,
                command.by_uid,
                command.files,
                command.check,
            )
        ]
    return [
        JobTalkedWith(command.job_id, command.which, command.by_uid, command.turns, command.tokens, command.answered)
    ]


def evolve(state: UseState | None, happened: Event) -> UseState:
    state = state or UseState()
    match happened:
        case JobExported():
            return UseState(state.exports + 1, state.talks)
        case JobTalkedWith():
            return UseState(state.exports, state.talks + 1)
    return state


class Allowed(Struct, frozen=True):
    """What is allowed with the things made from a dataset, whether the dataset itself is still there or not.

    ``revoked``: somebody took all of it back. ``erased``: nobody can allow it any more.
    """

    scopes: tuple[str, ...] = ()
    revoked: bool = False
    erased: bool = False


def allowed_with_results(happened: Sequence[tuple[int, int, Event]], made_seq: int) -> Allowed:
    """From a dataset's own history, events with their numbers and who did them; ``made_seq`` is the training's number.

    Removing it takes no consent back, revoking and erasing do. What is added under its name later on has a say in it
    where it is the same person's, or was put back: not what somebody else calls so, nor anything after an erasure.
    """
    found, owner_uid, gone_by, is_it = Allowed(), -1, -1, True
    for seq, by_uid, one in happened:
        if isinstance(one, DatasetAdded):
            put_back = one.owner_uid == owner_uid and by_uid != owner_uid
            is_it = seq < made_seq or (is_it and not found.erased and (one.owner_uid == gone_by or put_back))
            if is_it:
                found, owner_uid = Allowed(), one.owner_uid
        elif is_it:
            match one:
                case ConsentGranted():
                    found = Allowed(tuple(one.scopes))
                case ConsentRevoked():
                    found = Allowed((), revoked=True)
                case DatasetErased():
                    found = Allowed((), revoked=True, erased=True)
                case DatasetRemoved():
                    gone_by = by_uid
    return found
