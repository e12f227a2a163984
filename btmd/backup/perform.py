"""What a backup child does for each request."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import singledispatch
from pathlib import Path

import msgspec

from btmd.backup.components import chosen
from btmd.backup.create import BackupRequest
from btmd.backup.drill import drill
from btmd.backup.folder import BackupFolder
from btmd.backup.inventory import sort_inventory
from btmd.backup.key_ring import KeyRing, credential_secret
from btmd.backup.keys import Keys
from btmd.backup.manifests import ID_DIGITS, StoredArtefact
from btmd.backup.private_files import read_private
from btmd.backup.repository import Listed, Repository
from btmd.backup.requests import (
    CheckAnswer,
    CreatedAnswer,
    CreateRequest,
    DeletedAnswer,
    DeleteRequest,
    DrillAnswer,
    DrillRequest,
    ListAnswer,
    ListedBackup,
    ListRequest,
    PastEvent,
    PruneRequest,
    Request,
    ShowAnswer,
    ShownArtefact,
    ShownOmission,
    ShowRequest,
    StatesAnswer,
    StatesRequest,
    VerifyAnswer,
    VerifyRequest,
)
from btmd.backup.retention import Policy
from btmd.backup.ring_copies import mend_copy
from btmd.backup.segments import read_chain
from btmd.domain.commands import DECIDERS
from btmd.errors import BackupNotFound, BtmdError
from btmd.store.recorded import genesis_hash

Progress = Callable[[float, str], None]
NOUNS = tuple({decider.noun: decider for decider in DECIDERS.values()}.values())


@singledispatch
def perform(request: Request, progress: Progress) -> msgspec.Struct:
    """Carry out a request. Raises what the library raises."""
    raise TypeError(f"unknown request {type(request).__name__}")


def keys_of(request: Request) -> Keys:
    """The state folder's keys. Raises PartMissing, Tampered, InvalidValue for a credential that cannot be used."""
    credential = None if request.credential is None else credential_secret(read_private(Path(request.credential)))
    keys = Path(request.keys)
    beside = keys.parent / "backups"
    folders = dict.fromkeys((beside, Path(request.folder), *map(Path, request.known_folders)))
    return Keys(keys, credential=credential, copies=tuple(folders), made_before=request.keys_made)


def repository_of(request: Request) -> Repository:
    return Repository(Path(request.folder), NOUNS)


def _ring(request: Request) -> KeyRing:
    return keys_of(request).open(request.store_id, request.now_us, make=False)


@perform.register
def _create(request: CreateRequest, progress: Progress) -> CreatedAnswer:
    repository, keys = repository_of(request), keys_of(request)
    ring = keys.open(request.store_id, request.now_us)
    progress(0.0, "Looking at what there is")
    components = chosen(request.kind, request.only)
    beside = sort_inventory(request.inventory, components, with_artefacts=request.with_artefacts)
    wish = BackupRequest(
        backup_kind=request.kind,
        description=request.description,
        cause=request.cause,
        only=request.only,
        artefacts=tuple(beside.artefacts),
        omissions=tuple(beside.omissions),
        anew=request.anew,
    )
    progress(0.1, "Writing the backup")
    made = repository.create(Path(request.database), keys, ring, wish, request.now_us)
    return CreatedAnswer(
        made.name, made.new_events, made.written_bytes, made.rewritten_log, _listing(repository, request.store_id, ring)
    )


@perform.register
def _list(request: ListRequest, progress: Progress) -> ListAnswer:
    keys, ring = keys_of(request), None
    # Without its key a list still says what there is.
    with suppress(BtmdError):
        ring = keys.open(request.store_id, request.now_us, make=False)
    return _listing(repository_of(request), request.store_id, ring)


def _listing(repository: Repository, store_id: str, ring: KeyRing | None) -> ListAnswer:
    found = repository.backups()
    mine = [one for one in found if one.summary.header is not None and one.summary.header.store_id == store_id]
    unreadable = {one.summary.name: one.summary.fault for one in found if one.summary.header is None}
    return ListAnswer(tuple(_listed(repository, one, ring) for one in mine), unreadable)


def _listed(repository: Repository, one: Listed, ring: KeyRing | None) -> ListedBackup:
    header = one.summary.header
    assert header is not None
    listed = ListedBackup(
        name=one.summary.name,
        kind=header.backup_kind,
        created_at_us=header.created_at_us,
        epoch=header.epoch,
        head_seq=header.head_seq,
        segments=header.segment_count,
        size_bytes=header.size_bytes + repository.folder.manifest_size(one.summary.name),
        freed_bytes=one.freed_bytes,
    )
    if ring is None:
        return listed
    try:
        manifest = repository.show(one.summary.name, ring)
    except BtmdError:
        # What is wrong with it is said by `verify`.
        return listed
    return msgspec.structs.replace(
        listed,
        description=manifest.description,
        cause=manifest.cause,
        head_hash=manifest.head_hash,
        events=manifest.events,
        artefacts=len(manifest.artefacts),
        components=manifest.components,
    )


@perform.register
def _show(request: ShowRequest, progress: Progress) -> ShowAnswer:
    ring = _ring(request)
    manifest = repository_of(request).show(request.name, ring)
    return ShowAnswer(
        store_id=manifest.store_id,
        head_hash=manifest.head_hash,
        state_hash=manifest.state_hash,
        btmd_version=manifest.btmd_version,
        schema=manifest.schema,
        artefacts=tuple(
            ShownArtefact(one.kind, one.owner, one.name, one.size_bytes, one.key_id in ring.erased)
            for one in manifest.artefacts
        ),
        omissions=tuple(ShownOmission(one.what, one.count, one.size_bytes, one.then) for one in manifest.omissions),
        parts=manifest.parts,
    )


@perform.register
def _verify(request: VerifyRequest, progress: Progress) -> VerifyAnswer:
    repository, ring = repository_of(request), _ring(request)
    fault = _ring_fault(request)
    checks = []
    for number, name in enumerate(request.names):
        progress(number / len(request.names), f"Checking {name[:ID_DIGITS]}")
        try:
            found = repository.verify(name, ring)
        except BtmdError as error:
            checks.append(CheckAnswer(name, code=error.code, detail=error.detail, hint=error.hint))
        else:
            checks.append(CheckAnswer(name, found.events, found.artefacts, found.erased, found.size_bytes, found.state))
    told = None if fault is None else CheckAnswer("", code=fault.code, detail=fault.detail, hint=fault.hint)
    return VerifyAnswer(tuple(checks), told)


def _ring_fault(request: Request) -> BtmdError | None:
    keys = keys_of(request)
    return mend_copy(BackupFolder(Path(request.folder)), read_private(keys.ring_path), keys.secret())


@perform.register
def _delete(request: DeleteRequest, progress: Progress) -> DeletedAnswer:
    repository = repository_of(request)
    deleted = repository.delete(request.names)
    listing = _listing(repository, request.store_id, None)
    return DeletedAnswer(request.names, deleted.freed_bytes, deleted.swept, listing)


@perform.register
def _prune(request: PruneRequest, progress: Progress) -> DeletedAnswer:
    repository, ring = repository_of(request), _ring(request)
    before = {one.backup_id: one.name for one in repository.summaries(request.store_id)}
    policy = Policy(request.last, request.daily, request.weekly, request.monthly, request.max_size_bytes)
    progress(0.0, "Choosing what stays")
    if request.dry_run:
        names, freed_bytes, over_bytes = repository.preview_prune(policy, ring)
        listing = _listing(repository, request.store_id, ring)
        replaced = repository.shrinkable(ring) if over_bytes else ""
        return DeletedAnswer(names, freed_bytes, True, listing, over_bytes=over_bytes, replaced=replaced)
    pruned = repository.prune(policy, ring)
    after = {one.name for one in repository.summaries(request.store_id)}
    anew = next((name for name in after if pruned.rewritten and name.startswith(pruned.rewritten)), "")
    return DeletedAnswer(
        tuple(name for name in before.values() if name not in after),
        pruned.deleted.freed_bytes,
        pruned.deleted.swept,
        _listing(repository, request.store_id, ring),
        anew,
        pruned.over_bytes,
    )


@perform.register
def _drill(request: DrillRequest, progress: Progress) -> DrillAnswer:
    tmp = Path(request.tmp)
    for left_over in tmp.glob("drill-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    progress(0.0, f"Restoring {request.name[:ID_DIGITS]} into a temporary place")
    done = drill(repository_of(request), _ring(request), NOUNS, tmp, now_us=request.now_us, backup_id=request.name)
    fault = _ring_fault(request)
    if fault is not None and not done.code:
        done = msgspec.structs.replace(done, proved=False, code=fault.code, detail=fault.detail)
    return DrillAnswer(request.name, done.events, done.head_seq, done.duration_us, done.state, done.code, done.detail)


@perform.register
def _states(request: StatesRequest, progress: Progress) -> StatesAnswer:
    repository, ring = repository_of(request), _ring(request)
    if not os.path.exists(repository.folder.path / "manifests" / request.name):
        raise BackupNotFound(f"There is no backup {request.name[:ID_DIGITS]} in {request.folder} any more.")
    manifest = repository.show(request.name, ring)
    progress(0.0, f"Reading the backup {request.name[:ID_DIGITS]} through")
    repository.verify_events(request.name, manifest, ring)
    streams: dict[str, list[PastEvent]] = {}
    genesis = genesis_hash(manifest.store_id) if manifest.backup_kind == "full" else None
    for rows in read_chain(
        repository.folder, manifest.segments, ring.opening_keys, store_id=manifest.store_id, genesis=genesis
    ):
        for row in rows:
            if row.stream.startswith(request.prefixes):
                past = PastEvent(row.event_id, row.type, row.schema_version, row.data_json)
                streams.setdefault(row.stream, []).append(past)
    return StatesAnswer(
        manifest.head_seq,
        manifest.head_hash,
        manifest.epoch,
        manifest.components,
        {stream: tuple(events) for stream, events in streams.items()},
        tuple({one.content_sha256 for one in manifest.artefacts if is_readable_dataset(one, ring)}),
    )


def is_readable_dataset(stored: StoredArtefact, ring: KeyRing) -> bool:
    """Whether it is a file of a dataset whose key was not erased."""
    return stored.kind == "dataset" and stored.key_id not in ring.erased
