"""Datasets: registered once, versioned by content, used only with somebody's consent."""

from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from btmd.domain.event import Event, event
from btmd.errors import Conflict, DatasetNotFound, InvalidValue

SCOPES = ("train", "export", "backup")

Made = Literal["add", "update", "clean", "anonymise"]
"""How a version came to be: from a file, from the file as it is now, or from the version before it."""


@event("DatasetAdded")
class DatasetAdded(Event, frozen=True):
    """A person registered a file. ``source_name`` is the file's name without its folder."""

    dataset_id: str
    name: str
    owner_uid: int
    source_name: str


@event("DatasetVersionAdded")
class DatasetVersionAdded(Event, frozen=True):
    """One immutable version. ``facts`` are counts, layouts and line numbers, never the text of rows.

    ``version_id`` is the first 16 hex digits of the SHA-256 over source hash, rows hash and, where there is one, the
    version it came from. ``changes`` are counts and line numbers of what is different from ``parent``.
    """

    dataset_id: str
    version_id: str
    source_sha256: str
    rows_sha256: str
    size_bytes: int
    rows: int
    mapping: dict[str, str]
    facts: dict[str, Any]
    parent: str | None = None
    made: Made = "add"
    changes: dict[str, Any] = field(default_factory=dict)
    source_path: str = ""
    """Where the person's file lay, as they may read it; asked for again by an update without a path."""
    source_changed_us: int = 0
    """When that file was changed last, by its own time."""


@event("ConsentGranted")
class ConsentGranted(Event, frozen=True):
    """Somebody allowed the use of a dataset for a purpose."""

    dataset_id: str
    purpose: str
    scopes: tuple[str, ...]
    by_uid: int


@event("ConsentRevoked")
class ConsentRevoked(Event, frozen=True):
    dataset_id: str
    by_uid: int


@event("PersonalDataAccepted")
class PersonalDataAccepted(Event, frozen=True):
    """Somebody was told of personal data in a version and trains on it as it is. ``kinds``: rows by kind."""

    dataset_id: str
    version_id: str
    by_uid: int
    rows_affected: int
    kinds: dict[str, int]


@event("DatasetRemoved")
class DatasetRemoved(Event, frozen=True):
    """The registration ended; the history stays. ``contents_kept``: by a restore, which can be undone."""

    dataset_id: str
    contents_kept: bool = False


@event("DatasetErased")
class DatasetErased(Event, frozen=True):
    """Somebody had all of it destroyed: contents, what was written from them, and the keys of copies in backups.

    What this names leaves the disk from now on; `DatasetCopiesErased` says that it has. ``jobs`` were trained on it;
    their results stay.
    """

    dataset_id: str
    by_uid: int
    versions: tuple[str, ...]
    contents: tuple[str, ...]
    jobs: tuple[str, ...]


@event("DatasetCopiesErased")
class DatasetCopiesErased(Event, frozen=True):
    """Its keys are gone from every backup folder but those that could not be reached, whose turn comes later."""

    dataset_id: str
    keys: int
    unreached: tuple[str, ...]


class AddDataset(Struct, frozen=True):
    """Register a dataset with its first version, and with ``consent`` allow its use."""

    added: DatasetAdded
    version: DatasetVersionAdded
    consent: bool
    purpose: str = ""
    scopes: tuple[str, ...] = ("train",)
    by_owner: bool = True
    """Whether one of this name, if there is one, is the asking user's: having the same file gives no say in it."""

    @property
    def dataset_id(self) -> str:
        return self.added.dataset_id


class AddVersion(Struct, frozen=True):
    """Add a version made from another one (its ``parent``), which has to be the newest when this is decided."""

    version: DatasetVersionAdded

    @property
    def dataset_id(self) -> str:
        return self.version.dataset_id


class GrantConsent(Struct, frozen=True):
    dataset_id: str
    by_uid: int
    purpose: str = ""
    scopes: tuple[str, ...] = ("train",)


class RevokeConsent(Struct, frozen=True):
    dataset_id: str
    by_uid: int


class AcceptPersonalData(Struct, frozen=True):
    dataset_id: str
    version_id: str
    by_uid: int
    rows_affected: int
    kinds: dict[str, int]


class RemoveDataset(Struct, frozen=True):
    dataset_id: str


class EraseDataset(Struct, frozen=True):
    """``contents`` are the rows and sources of its ``versions``; also of a dataset that was removed before."""

    dataset_id: str
    by_uid: int
    versions: tuple[str, ...]
    contents: tuple[str, ...]
    jobs: tuple[str, ...]


class RecordErasure(Struct, frozen=True):
    """Contents and ``keys`` so many keys are destroyed; the backup folders ``unreached`` still have a copy."""

    dataset_id: str
    keys: int
    unreached: tuple[str, ...]


DatasetCommand = (
    AddDataset
    | AddVersion
    | GrantConsent
    | RevokeConsent
    | AcceptPersonalData
    | RemoveDataset
    | EraseDataset
    | RecordErasure
)


class DatasetState(Struct, frozen=True):
    dataset_id: str
    name: str
    owner_uid: int
    versions: tuple[str, ...] = ()
    consent_scopes: tuple[str, ...] = ()
    purpose: str = ""
    """What it is allowed for."""
    removed: bool = False
    contents_kept: bool = False
    """Whether it was a restore that removed it, which can be undone."""
    erased: Literal["", "asked", "done"] = ""
    """``done``: nothing of it is left on this machine."""
    unreached: tuple[str, ...] = ()
    """Backup folders that still hold keys of it."""


def stream_name(dataset_id: str) -> str:
    return f"dataset-{dataset_id}"


def stream(command: DatasetCommand) -> str:
    return stream_name(command.dataset_id)


def decide(command: DatasetCommand, state: DatasetState | None) -> list[Event]:
    """Raises Conflict for a name that is taken, DatasetNotFound for one that is not there, InvalidValue for a scope."""
    if isinstance(command, AddDataset):
        return _add(command, state)
    if isinstance(command, RecordErasure):
        return _record_erasure(command, state)
    if isinstance(command, EraseDataset) and state is not None:
        return _erase(command, state)
    if state is None or state.removed:
        raise DatasetNotFound(
            f"There is no dataset called {command.dataset_id}.", hint="`btmctl datasets list` shows those there are."
        )
    if isinstance(command, AddVersion):
        return _derive(command.version, state)
    if isinstance(command, GrantConsent):
        return _grant(state, command.purpose, command.scopes, command.by_uid)
    if isinstance(command, RevokeConsent):
        return [ConsentRevoked(command.dataset_id, command.by_uid)] if state.consent_scopes else []
    if isinstance(command, AcceptPersonalData):
        return [
            PersonalDataAccepted(
                command.dataset_id, command.version_id, command.by_uid, command.rows_affected, command.kinds
            )
        ]
    return [DatasetRemoved(command.dataset_id)]


def _erase(command: EraseDataset, state: DatasetState) -> list[Event]:
    if state.erased:
        return []
    erased = DatasetErased(command.dataset_id, command.by_uid, command.versions, command.contents, command.jobs)
    return [erased] if not state.consent_scopes else [ConsentRevoked(command.dataset_id, command.by_uid), erased]


def _record_erasure(command: RecordErasure, state: DatasetState | None) -> list[Event]:
    unreached = tuple(sorted(command.unreached))
    if state is None or (state.erased != "asked" and state.unreached == unreached):
        return []
    return [DatasetCopiesErased(command.dataset_id, command.keys, unreached)]


def _add(command: AddDataset, state: DatasetState | None) -> list[Event]:
    if state is not None and state.erased == "asked":
        raise Conflict(
            f"What there was of the dataset {command.added.name} is just being erased.", hint="Try again in a moment."
        )
    added = command.added
    if state is not None and not state.removed:
        if not command.by_owner:
            raise taken(added.name)
        if command.version.version_id == state.versions[-1]:
            return _grant(state, command.purpose, command.scopes, added.owner_uid) if command.consent else []
        raise Conflict(
            f"A dataset called {added.name} is there already, and its newest version has other contents.",
            hint=f"`btmctl datasets update {added.dataset_id} PATH` makes its next version; --name adds another one.",
        )
    events: list[Event] = [added, command.version]
    if command.consent:
        events.append(_granted(added.dataset_id, command.purpose, command.scopes, added.owner_uid))
    return events


def taken(name: str) -> Conflict:
    """What somebody is told whose dataset would have the name of somebody else's."""
    return Conflict(
        f"Somebody else's dataset is called {name} already.",
        hint="Choose another name with --name; theirs can be used once they share it.",
    )


def _derive(version: DatasetVersionAdded, state: DatasetState) -> list[Event]:
    if version.version_id == state.versions[-1]:
        return []
    if version.parent != state.versions[-1]:
        raise Conflict(
            f"The dataset {state.name} has got another version meanwhile.", hint="Look at it, and try again."
        )
    return [version]


def _granted(dataset_id: str, purpose: str, scopes: tuple[str, ...], by_uid: int) -> ConsentGranted:
    _require_scopes(scopes)
    return ConsentGranted(dataset_id, purpose, tuple(one for one in SCOPES if one in scopes), by_uid)


def _require_scopes(scopes: tuple[str, ...]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        what = f"Nothing can be allowed that is called {unknown[0][:60]!r}." if unknown else "Nothing was allowed."
        raise InvalidValue(what, hint=f"Choose from: {', '.join(SCOPES)}.")


def _grant(state: DatasetState, purpose: str, scopes: tuple[str, ...], by_uid: int) -> list[Event]:
    """A consent adds to what was allowed before; only a revocation takes away. Raises InvalidValue."""
    _require_scopes(scopes)
    if set(scopes) <= set(state.consent_scopes) and purpose in ("", state.purpose):
        return []
    return [_granted(state.dataset_id, purpose or state.purpose, (*state.consent_scopes, *scopes), by_uid)]


def evolve(state: DatasetState | None, happened: Event) -> DatasetState | None:
    if isinstance(happened, DatasetAdded):
        unreached = state.unreached if state is not None else ()
        return DatasetState(happened.dataset_id, happened.name, happened.owner_uid, unreached=unreached)
    if state is None:
        return None
    match happened:
        case DatasetVersionAdded():
            return replace(state, versions=(*state.versions, happened.version_id))
        case ConsentGranted():
            return replace(state, consent_scopes=happened.scopes, purpose=happened.purpose)
        case ConsentRevoked():
            return replace(state, consent_scopes=(), purpose="")
        case DatasetRemoved():
            kept = happened.contents_kept
            return replace(state, removed=True, contents_kept=kept, consent_scopes=(), purpose="")
        case DatasetErased():
            return replace(state, removed=True, contents_kept=False, erased="asked", consent_scopes=(), purpose="")
        case DatasetCopiesErased():
            erased: Literal["", "done"] = "done" if state.erased else ""
            return replace(state, erased=erased, unreached=happened.unreached)
    return state
