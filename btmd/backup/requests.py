"""What may be asked of a backup child, and what comes back. Imports nothing heavy: the daemon reads this file too.

Every path is absolute; times are microseconds UTC; sizes are bytes.
"""

from typing import Literal

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="what"):
    """``folder`` holds the backups, ``keys`` is the state folder's; ``credential``: a file in place of the key file.

    ``known_folders`` hold or held backups too; ``keys_made``: the log tells of backups or keys.
    """

    folder: str
    keys: str
    credential: str | None = None
    store_id: str
    now_us: int
    known_folders: tuple[str, ...] = ()
    keys_made: bool = False


class NamedFile(msgspec.Struct, frozen=True):
    """A file by what it is called in a backup; ``sha256`` is empty where it has to be measured."""

    name: str
    path: str
    sha256: str = ""


class DatasetFiles(msgspec.Struct, frozen=True):
    """``allowed``: there is a consent that its contents go into backups."""

    dataset_id: str
    allowed: bool
    files: tuple[NamedFile, ...]
    answers_keys: tuple[str, ...] = ()
    """What opens the sample answers of jobs that were trained on it."""


class JobFiles(msgspec.Struct, frozen=True):
    job_id: str
    dataset_id: str
    result: str
    answers: str
    checkpoints: str
    """Empty where the job has ended and needs none."""
    answers_allowed: bool = True
    """Whether there is a consent that what was made from the dataset's rows goes into backups."""


class Inventory(msgspec.Struct, frozen=True):
    """What there is beside the log. ``models_bytes`` is what the weights of the ``models`` registered ones take."""

    datasets: tuple[DatasetFiles, ...] = ()
    jobs: tuple[JobFiles, ...] = ()
    models: int = 0
    models_bytes: int = 0


class CreateRequest(Request, frozen=True, tag="create"):
    """Back up what is new, or everything ``anew``. Answer: CreatedAnswer."""

    database: str
    kind: Literal["config", "full", "selective"] = "full"
    only: tuple[str, ...] = ()
    description: str = ""
    cause: str = "manual"
    with_artefacts: bool = False
    anew: bool = False
    inventory: Inventory = Inventory()


class ListRequest(Request, frozen=True, tag="list"):
    """All backups of the store in the folder. Answer: ListAnswer."""


class ShowRequest(Request, frozen=True, tag="show"):
    """What is in one backup. Answer: ShowAnswer."""

    name: str


class VerifyRequest(Request, frozen=True, tag="verify"):
    """Read these backups through. Answer: VerifyAnswer."""

    names: tuple[str, ...]


class DeleteRequest(Request, frozen=True, tag="delete"):
    """Answer: DeletedAnswer."""

    names: tuple[str, ...]


class PruneRequest(Request, frozen=True, tag="prune"):
    """Let go what the policy does not keep; with ``dry_run`` only name it. Answer: DeletedAnswer."""

    last: int
    daily: int
    weekly: int
    monthly: int
    max_size_bytes: int | None = None
    dry_run: bool = False


class DrillRequest(Request, frozen=True, tag="drill"):
    """Restore into a temporary place under ``tmp`` and compare. Answer: DrillAnswer."""

    name: str
    tmp: str


class StatesRequest(Request, frozen=True, tag="states"):
    """The states of a backup's streams whose names begin with one of ``prefixes``. Answer: StatesAnswer."""

    name: str
    prefixes: tuple[str, ...]


class KeysRequest(Request, frozen=True, tag="keys"):
    """What opens the backups. Answer: KeysAnswer."""


class ShowRecoveryRequest(Request, frozen=True, tag="show_recovery"):
    """A new recovery key, in place of an earlier one. Answer: KeysAnswer with it."""


class ConfirmRecoveryRequest(Request, frozen=True, tag="confirm_recovery"):
    """Somebody typed the recovery key back. Answer: KeysAnswer."""

    recovery_key: str


class RotateRequest(Request, frozen=True, tag="rotate"):
    """New keys for what comes. Answer: KeysAnswer."""


class PassphraseRequest(Request, frozen=True, tag="passphrase"):
    """A passphrase that opens the backups, in place of an earlier one. Answer: KeysAnswer."""

    passphrase: str


class RenewKeyFileRequest(Request, frozen=True, tag="renew_key_file"):
    """A new key file where the old one is lost; exactly one of the secrets opens the ring. Answer: KeysAnswer.

    ``anew``: nothing opens it any more, so other keys are begun with.
    """

    recovery_key: str = ""
    passphrase: str = ""
    anew: bool = False


class EraseKeysRequest(Request, frozen=True, tag="erase_keys"):
    """Forget a dataset's keys, here and in every backup folder within reach. Answer: KeysErasedAnswer.

    An empty ``dataset_id``: only bring the ring in the folders up to date.
    """

    dataset_id: str = ""


class RecoverRequest(Request, frozen=True, tag="recover"):
    """Rebuild the database of a state folder that no daemon uses. Answer: RecoveredAnswer.

    ``folder`` may also be a state folder with backups in it, or one backup's file. An empty ``store_id`` takes the one
    store that the secret opens. ``secret`` is a path, or what was typed. A database that is whole is only replaced with
    ``replace``.
    """

    state_dir: str
    secret_kind: Literal["key_file", "credential", "recovery_key", "passphrase"]
    secret: str
    backup_id: str | None = None
    replace: bool = False


class BringBackRequest(Request, frozen=True, tag="bring_back"):
    """The files of one backup into the state folder, whose log is whole. Answer: BroughtBackAnswer.

    ``contents`` names the datasets' files that are wanted, by their SHA-256, and then all of them have to come back.
    """

    name: str
    state_dir: str
    contents: tuple[str, ...] | None = None


class AuditHead(msgspec.Struct, frozen=True):
    """Where the log ended once, by somebody who kept it; ``hash`` (hex), ``epoch`` and ``store_id`` where known."""

    source: str
    seq: int
    hash: str = ""
    epoch: int = 0
    store_id: str = ""


class AuditRequest(Request, frozen=True, tag="audit"):
    """Walk the log's chain read-only and look up known heads, those of all backups included. Answer: AuditAnswer.

    ``store_id`` is not asked for: the database tells its own.
    """

    database: str
    folders: tuple[str, ...] = ()
    known: tuple[AuditHead, ...] = ()


class SealRequest(Request, frozen=True, tag="seal"):
    """Sign an export of the audit that has this SHA-256 (hex). Answer: SealAnswer; PartMissing where no key is."""

    digest: str


AnyRequest = (
    AuditRequest
    | SealRequest
    | CreateRequest
    | ListRequest
    | ShowRequest
    | VerifyRequest
    | DeleteRequest
    | PruneRequest
    | DrillRequest
    | StatesRequest
    | KeysRequest
    | ShowRecoveryRequest
    | ConfirmRecoveryRequest
    | RotateRequest
    | PassphraseRequest
    | RenewKeyFileRequest
    | EraseKeysRequest
    | RecoverRequest
    | BringBackRequest
)


class KeysErasedAnswer(msgspec.Struct, frozen=True):
    """How many keys were forgotten, and the folders whose copy of the ring could not be brought up to date."""

    keys: int
    unreached: tuple[str, ...]


class ListedBackup(msgspec.Struct, frozen=True):
    """A backup as its manifest tells; without a key, what is sealed stays empty. ``freed_bytes``: by deleting it."""

    name: str
    kind: str
    created_at_us: int
    epoch: int
    head_seq: int
    segments: int
    size_bytes: int
    freed_bytes: int
    description: str = ""
    cause: str = ""
    head_hash: str = ""
    events: int = 0
    artefacts: int = 0
    components: tuple[str, ...] = ()


class ListAnswer(msgspec.Struct, frozen=True):
    """``unreadable``: names of manifests that are damaged, by the error's code."""

    backups: tuple[ListedBackup, ...]
    unreadable: dict[str, str] = {}


class CreatedAnswer(msgspec.Struct, frozen=True):
    name: str
    new_events: int
    written_bytes: int
    rewritten_log: tuple[str, ...]
    listing: ListAnswer


class ShownArtefact(msgspec.Struct, frozen=True):
    kind: str
    owner: str
    name: str
    size_bytes: int
    erased: bool


class ShownOmission(msgspec.Struct, frozen=True):
    what: str
    count: int
    size_bytes: int
    then: str


class ShowAnswer(msgspec.Struct, frozen=True):
    store_id: str
    head_hash: str
    state_hash: str
    btmd_version: str
    schema: int
    artefacts: tuple[ShownArtefact, ...]
    omissions: tuple[ShownOmission, ...]
    parts: tuple[str, ...] = ()
    """Names of the sealed files beside the manifest."""


class CheckAnswer(msgspec.Struct, frozen=True):
    """``code`` is empty where everything fits. ``erased`` artefacts cannot be read, on purpose."""

    name: str
    events: int = 0
    artefacts: int = 0
    erased: int = 0
    size_bytes: int = 0
    state: str = ""
    code: str = ""
    detail: str = ""
    hint: str = ""


class VerifyAnswer(msgspec.Struct, frozen=True):
    """``ring`` tells of the folder's copy of the key ring, where something is wrong with it."""

    checks: tuple[CheckAnswer, ...]
    ring: CheckAnswer | None = None


class DeletedAnswer(msgspec.Struct, frozen=True):
    """``made_anew`` is the name of one that took the place of a deleted one. ``swept``: parts were cleared away.

    ``replaced``, where nothing was done yet: the name of one that would be written anew and then go.
    """

    names: tuple[str, ...]
    freed_bytes: int
    swept: bool
    listing: ListAnswer
    made_anew: str = ""
    over_bytes: int = 0
    replaced: str = ""


class DrillAnswer(msgspec.Struct, frozen=True):
    name: str
    events: int
    head_seq: int
    duration_us: int
    state: str
    code: str = ""
    detail: str = ""


class PastEvent(msgspec.Struct, frozen=True):
    """An event as it was recorded; ``data_json`` is the stored text."""

    event_id: str
    type: str
    schema_version: int
    data_json: str


class StatesAnswer(msgspec.Struct, frozen=True):
    """By stream, its events in order: a state is what they fold to. ``components``: what the backup is made of.

    ``contents`` are the SHA-256 of the datasets' files that went along and are not erased.
    """

    head_seq: int
    head_hash: str
    epoch: int
    components: tuple[str, ...]
    streams: dict[str, tuple[PastEvent, ...]]
    contents: tuple[str, ...] = ()


class ShownSlot(msgspec.Struct, frozen=True):
    kind: str
    created_at_us: int


class KeysAnswer(msgspec.Struct, frozen=True):
    """``unreached``: backup folders that get the changed key ring with their next backup."""

    key_id: str
    slots: tuple[ShownSlot, ...]
    unreached: tuple[str, ...] = ()
    recovery_key: str = ""


class ArtefactProblem(msgspec.Struct, frozen=True):
    """A file that could not be brought back."""

    name: str
    code: str
    detail: str


class BroughtBackAnswer(msgspec.Struct, frozen=True):
    """How many files stand in their places again, and which do not."""

    artefacts: int
    problems: tuple[ArtefactProblem, ...] = ()


class RecoveredAnswer(msgspec.Struct, frozen=True):
    """``kept``: where the database that was there stands now; ``unopened``: newer backups that need another key.

    ``unreadable``: backups whose manifests are damaged and that may be newer.
    """

    backup_id: str
    created_at_us: int
    store_id: str
    epoch: int
    head_seq: int
    events: int
    artefacts: int
    kept: str | None
    problems: tuple[ArtefactProblem, ...]
    omissions: tuple[ShownOmission, ...]
    unopened: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


class AuditAnswer(msgspec.Struct, frozen=True):
    """``verdict``: ok, damaged or tampered; ``first_bad`` is None where no event can be named.

    ``compared``: who told of which event, and whether it is the ``same``, ``missing``, ``differs``, ``not_comparable``.
    ``public_key`` (hex) is that of the seal under exports; empty where there is none, or it cannot be opened.
    """

    verdict: str
    checked: int
    first_bad: int | None
    reason: str
    store_id: str
    epoch: int
    head_seq: int
    head_hash: str
    compared: tuple[tuple[str, int, str], ...] = ()
    public_key: str = ""


class SealAnswer(msgspec.Struct, frozen=True):
    """An Ed25519 signature by the store's key, both in hex."""

    public_key: str
    signature: str


def decode_request(line: bytes) -> AnyRequest:
    """Raises msgspec.ValidationError for anything but a known request."""
    decoded: AnyRequest = msgspec.json.decode(line, type=AnyRequest)
    return decoded
