"""Backups: which there are and were, whether they were proved, and what was done with their keys.

A backup is made, checked and deleted by a process of its own; a command here records what came of it.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from btmd.domain.event import Event, event

STREAM = "backups"
KeyAction = Literal["shown", "confirmed", "rotated", "passphrase_set", "key_file_renewed", "begun_anew"]


class BackupFacts(Struct, frozen=True):
    """What a manifest says of its backup. Sizes in bytes, shared parts included.

    ``name`` is the manifest's: the SHA-256 of its file, whose first 16 digits are the backup's id. ``cause`` is manual,
    schedule, or before which operation it was made.
    """

    name: str
    kind: str
    created_at_us: int
    description: str
    cause: str
    epoch: int
    head_seq: int
    head_hash: str
    events: int
    segments: int
    artefacts: int
    components: tuple[str, ...]
    size_bytes: int

    @property
    def backup_id(self) -> str:
        return self.name[:16]


@event("BackupCreated")
class BackupCreated(Event, frozen=True):
    """``written_bytes`` is what it added to the folder; ``new_events`` how many events the one before did not hold."""

    folder: str
    backup: BackupFacts
    new_events: int
    written_bytes: int


@event("BackupFailed")
class BackupFailed(Event, frozen=True):
    """None was made; the ones before stand as they were."""

    folder: str
    cause: str
    code: str
    detail: str


@event("BackupFound")
class BackupFound(Event, frozen=True):
    """The folder holds a backup of this store that the log did not know: put there, or made after what it restored."""

    folder: str
    backup: BackupFacts


@event("BackupLost")
class BackupLost(Event, frozen=True):
    """A backup is not in its folder any more, and it was not deleted through us."""

    folder: str
    name: str


@event("BackupDeletionBegun")
class BackupDeletionBegun(Event, frozen=True):
    """These are about to be deleted. What of them is gone when the folder is looked at next was deleted by it, even if
    the daemon ended before it could say so. ``cause``: asked, or prune.
    """

    folder: str
    names: tuple[str, ...]
    cause: str


@event("BackupDeletionBroken")
class BackupDeletionBroken(Event, frozen=True):
    """A deletion ended before these were reached; they stay."""

    folder: str
    names: tuple[str, ...]


@event("BackupDeleted")
class BackupDeleted(Event, frozen=True):
    """``cause``: asked, or prune."""

    folder: str
    name: str
    cause: str


@event("BackupVerified")
class BackupVerified(Event, frozen=True):
    """Everything was read and fits. ``state``: matches, or other_code where another release cannot compare it."""

    folder: str
    name: str
    events: int
    artefacts: int
    state: str


@event("BackupFaulty")
class BackupFaulty(Event, frozen=True):
    """A check found the backup damaged, tampered with, incomplete, or under another key."""

    folder: str
    name: str
    code: str
    detail: str


@event("LogRewritten")
class LogRewritten(Event, frozen=True):
    """Earlier backups of this epoch end in an event that the log does not hold: another log stands in its place."""

    folder: str
    backup_ids: tuple[str, ...]


@event("DrillPassed")
class DrillPassed(Event, frozen=True):
    """The backup was restored into a temporary place, replayed, and gave the state that was backed up."""

    folder: str
    name: str
    events: int
    head_seq: int
    duration_us: int
    state: str


@event("DrillFailed")
class DrillFailed(Event, frozen=True):
    folder: str
    name: str
    duration_us: int
    code: str
    detail: str


@event("RecoveryKeyShown")
class RecoveryKeyShown(Event, frozen=True):
    """A new recovery key was made and shown once; an earlier one opens nothing any more."""


@event("RecoveryKeyConfirmed")
class RecoveryKeyConfirmed(Event, frozen=True):
    """Somebody typed the recovery key back, so it was written down."""


@event("KeyRotated")
class KeyRotated(Event, frozen=True):
    """New backups are sealed with a new key. ``unreached``: folders that get the new key ring with their next one."""

    unreached: tuple[str, ...]


@event("PassphraseSet")
class PassphraseSet(Event, frozen=True):
    unreached: tuple[str, ...]


@event("KeyFileRenewed")
class KeyFileRenewed(Event, frozen=True):
    """The key ring was opened without the key file, and this machine has a new one."""

    unreached: tuple[str, ...]


@event("KeysBegunAnew")
class KeysBegunAnew(Event, frozen=True):
    """Nothing opened the key ring any more: other keys seal what comes, and no earlier secret opens it."""


class RecordBackup(Struct, frozen=True):
    folder: str
    backup: BackupFacts
    new_events: int
    written_bytes: int
    rewritten_log: tuple[str, ...] = ()


class RecordBackupFailure(Struct, frozen=True):
    folder: str
    cause: str
    code: str
    detail: str


class CompareFolder(Struct, frozen=True):
    """``backups`` is all that can be read there of this store; ``unreadable``: names that stand there besides."""

    folder: str
    backups: tuple[BackupFacts, ...]
    unreadable: tuple[str, ...] = ()


class BeginDeletion(Struct, frozen=True):
    folder: str
    names: tuple[str, ...]
    cause: str


class RecordDeletion(Struct, frozen=True):
    folder: str
    names: tuple[str, ...]
    cause: str
    made_anew: BackupFacts | None = None
    """The one that took the place of a deleted one, with the same contents in fewer parts."""


class CheckedBackup(Struct, frozen=True):
    """What a check of one backup gave; ``code`` is empty where all of it was right."""

    name: str
    events: int = 0
    artefacts: int = 0
    state: str = ""
    code: str = ""
    detail: str = ""


class RecordChecks(Struct, frozen=True):
    folder: str
    checks: tuple[CheckedBackup, ...]


class RecordDrill(Struct, frozen=True):
    """``code`` is empty where the restore was proved."""

    folder: str
    name: str
    events: int
    head_seq: int
    duration_us: int
    state: str
    code: str = ""
    detail: str = ""


class RecordKeyAction(Struct, frozen=True):
    action: KeyAction
    unreached: tuple[str, ...] = ()


BackupCommand = (
    RecordBackup
    | RecordBackupFailure
    | CompareFolder
    | BeginDeletion
    | RecordDeletion
    | RecordChecks
    | RecordDrill
    | RecordKeyAction
)


class BackupsState(Struct, frozen=True):
    """What is decided on: the backups by folder and name, and whether somebody could open them without this machine."""

    created_at_us: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By folder, then by the manifest's name."""
    leaving: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By folder, then by name: why it is about to be deleted."""
    recovery_key: Literal["none", "shown", "confirmed"] = "none"
    passphrase: bool = False

    def holds(self, folder: str, name: str) -> bool:
        return name in self.created_at_us.get(folder, {})

    @property
    def has_keys(self) -> bool:
        """Whether keys were made: by a backup, or for their own sake."""
        return bool(self.created_at_us) or self.recovery_key != "none" or self.passphrase

    @property
    def opens_elsewhere(self) -> bool:
        """Whether the loss of this machine leaves a way to open its backups."""
        return self.passphrase or self.recovery_key == "confirmed"


def stream(command: BackupCommand) -> str:
    return STREAM


def decide(command: BackupCommand, state: BackupsState | None) -> list[Event]:
    """What happened is recorded; only what is known already is left out."""
    state = state or BackupsState()
    match command:
        case RecordBackup():
            made = BackupCreated(command.folder, command.backup, command.new_events, command.written_bytes)
            rewritten = [LogRewritten(command.folder, command.rewritten_log)] if command.rewritten_log else []
            return [made, *rewritten]
        case RecordBackupFailure():
            return [BackupFailed(command.folder, command.cause, command.code, command.detail)]
        case CompareFolder():
            return _compare(command, state)
        case BeginDeletion():
            known = tuple(name for name in command.names if state.holds(command.folder, name))
            return [BackupDeletionBegun(command.folder, known, command.cause)] if known else []
        case RecordDeletion():
            anew = command.made_anew
            deleted = [BackupDeleted(command.folder, name, command.cause) for name in command.names]
            return [*([BackupFound(command.folder, anew)] if anew else []), *deleted]
        case RecordChecks():
            return [_check(command.folder, one) for one in command.checks]
        case RecordDrill():
            return [_drill(command)]
        case RecordKeyAction():
            return [_key_event(command)]


def _compare(command: CompareFolder, state: BackupsState) -> list[Event]:
    names = {backup.name for backup in command.backups} | set(command.unreadable)
    gone = sorted(state.created_at_us.get(command.folder, {}).keys() - names)
    leaving = state.leaving.get(command.folder, {})
    stay = tuple(sorted(leaving.keys() & names))
    new = [backup for backup in command.backups if not state.holds(command.folder, backup.name)]
    new.sort(key=lambda backup: backup.created_at_us)
    return [
        *(BackupFound(command.folder, backup) for backup in new),
        *(
            BackupDeleted(command.folder, name, leaving[name]) if name in leaving else BackupLost(command.folder, name)
            for name in gone
        ),
        *([BackupDeletionBroken(command.folder, stay)] if stay else []),
    ]


def _check(folder: str, one: CheckedBackup) -> Event:
    if one.code:
        return BackupFaulty(folder, one.name, one.code, one.detail)
    return BackupVerified(folder, one.name, one.events, one.artefacts, one.state)


def _drill(command: RecordDrill) -> Event:
    if command.code:
        return DrillFailed(command.folder, command.name, command.duration_us, command.code, command.detail)
    return DrillPassed(
        command.folder, command.name, command.events, command.head_seq, command.duration_us, command.state
    )


def _key_event(command: RecordKeyAction) -> Event:
    match command.action:
        case "shown":
            return RecoveryKeyShown()
        case "confirmed":
            return RecoveryKeyConfirmed()
        case "rotated":
            return KeyRotated(command.unreached)
        case "passphrase_set":
            return PassphraseSet(command.unreached)
        case "key_file_renewed":
            return KeyFileRenewed(command.unreached)
        case "begun_anew":
            return KeysBegunAnew()


def evolve(state: BackupsState | None, happened: Event) -> BackupsState:
    state = state or BackupsState()
    match happened:
        case BackupCreated() | BackupFound():
            there = {
                **state.created_at_us.get(happened.folder, {}),
                happened.backup.name: happened.backup.created_at_us,
            }
            return replace(state, created_at_us={**state.created_at_us, happened.folder: there})
        case BackupDeleted() | BackupLost():
            folder = state.created_at_us.get(happened.folder, {})
            left = {name: at_us for name, at_us in folder.items() if name != happened.name}
            state = _not_leaving(state, happened.folder, {happened.name})
            return replace(state, created_at_us={**state.created_at_us, happened.folder: left})
        case BackupDeletionBegun():
            leaving = dict.fromkeys(happened.names, happened.cause)
            return replace(state, leaving={**state.leaving, happened.folder: leaving})
        case BackupDeletionBroken():
            return _not_leaving(state, happened.folder, set(happened.names))
        case RecoveryKeyShown():
            return replace(state, recovery_key="shown")
        case RecoveryKeyConfirmed():
            return replace(state, recovery_key="confirmed")
        case PassphraseSet():
            return replace(state, passphrase=True)
        case KeysBegunAnew():
            return replace(state, recovery_key="none", passphrase=False)
    return state


def _not_leaving(state: BackupsState, folder: str, names: set[str]) -> BackupsState:
    """They are not about to be deleted any more: they are gone, or stay."""
    left = {name: cause for name, cause in state.leaving.get(folder, {}).items() if name not in names}
    leaving = {known: theirs for known, theirs in state.leaving.items() if known != folder}
    return replace(state, leaving={**leaving, folder: left} if left else leaving)
