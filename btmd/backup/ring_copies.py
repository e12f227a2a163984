"""The copies of a store's key ring in the backup folders: handed out, opened, and looked to where the ring is lost."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import KeyRing, RingHead, Secret, absorb, open_ring, read_head
from btmd.backup.manifests import read_summary
from btmd.errors import BackupNotFound, BtmdError, Damaged, InvalidValue, PartMissing, Tampered, WrongKey

RENEW_HINT = (
    "`btmctl backup key renew --recovery-key` (or --passphrase) makes this machine's keys anew from a backup folder;"
    " where nothing opens the backups any more, `btmctl backup key renew --anew` begins with new keys."
)


def open_folder_ring(folder: BackupFolder, secret: Secret, store_id: str | None = None) -> KeyRing:
    """The ring of the folder that ``secret`` opens. Raises PartMissing, WrongKey, Damaged, Tampered, InvalidValue."""
    folder.require()
    found = [data for _, data in folder.rings(store_id)]
    if not found and store_id is not None and (others := sorted({head.store_id for head, _ in folder.rings()})):
        raise BackupNotFound(
            f"There is no store {store_id} in {folder.path}.", hint=f"Its backups are of: {', '.join(others)}."
        )
    if not found:
        raise PartMissing(
            f"There is no key ring in {folder.path}.", hint="Look for a copy of the backup folder that has `rings`."
        )
    return _newest_opened(found, secret, str(folder.path))


def open_copies(folders: Iterable[Path], secret: Secret, store_id: str, *, not_of: bytes | None = None) -> KeyRing:
    """The store's ring from its copies in all these folders, joined; those signed by ``not_of`` are passed over.

    Raises PartMissing where none can be read, WrongKey, Tampered.
    """
    found: list[bytes] = []
    for folder in folders:
        found += [data for head, data in _readable(folder, store_id) if head.signer != not_of and data not in found]
    if not found:
        raise PartMissing("No backup folder within reach holds a whole copy of the key ring.", hint=RENEW_HINT)
    return _newest_opened(found, secret, "the backup folders")


def knows_store(folder: Path, store_id: str) -> bool:
    """Whether a ring or a backup of the store lies there: then its keys were made once."""
    if _readable(folder, store_id):
        return True
    place = BackupFolder(folder)
    try:
        names = place.manifest_ids()
    except BtmdError:
        return False
    for name in names:
        try:
            header = read_summary(place, name).header
        except BtmdError:
            continue
        if header is not None and header.store_id == store_id:
            return True
    return False


def hand_out(ring: KeyRing, data: bytes) -> list[str]:
    """Bring the ring's copy, ``data``, in every known backup folder up to date; returns the folders out of reach.

    One that is out of reach gets its copy with the next backup into it.
    """
    unreached = []
    for known in ring.folders:
        folder = BackupFolder(Path(known))
        try:
            folder.require()
            with folder.changing():
                folder.place_ring(data)
        except BtmdError:
            unreached.append(known)
    return unreached


def mend_copy(folder: BackupFolder, data: bytes, secret: Secret) -> BtmdError | None:
    """What is wrong with the folder's copy of the ring ``data``, which takes its place then; None where it opens."""
    head = read_head(data)
    fault: BtmdError | None = None
    try:
        copy = folder.ring_copy(head)
        if read_head(copy).generation >= head.generation:
            open_ring(copy, secret)
            return None
    except (PartMissing, Damaged, Tampered, WrongKey) as error:
        fault = error
    hint = "A whole copy was put there; check again."
    try:
        with folder.changing():
            folder.place_ring(data)
    except BtmdError as error:
        hint = f"The copy in the state folder is whole, and could not be put there: {error.detail}"
    if fault is None:
        return None
    return type(fault)(f"The key ring in {folder.path} does not open its backups: {fault.detail}", hint=hint)


def _readable(folder: Path, store_id: str) -> list[tuple[RingHead, bytes]]:
    try:
        return BackupFolder(folder).readable_rings(store_id)[0]
    except BtmdError:
        # Out of reach is as good as not there: another folder may have a copy.
        return []


def _newest_opened(found: Sequence[bytes], secret: Secret, where: str) -> KeyRing:
    opened: list[KeyRing] = []
    refusals: list[BtmdError] = []
    for data in found:
        try:
            opened.append(open_ring(data, secret))
        except BtmdError as error:
            refusals.append(error)
    if not opened:
        # Tampering says more than "wrong key" about the same ring.
        raise next((one for one in refusals if not isinstance(one, WrongKey)), refusals[0])
    stores = sorted({ring.store_id for ring in opened})
    if len(stores) > 1:
        raise InvalidValue(
            f"Backups of several stores lie in {where} that this key opens: {', '.join(stores)}.",
            hint="Name the store.",
        )
    # The ring with the newest key seals what comes; the others open what was.
    opened.sort(key=lambda ring: (ring.keys[ring.current].created_at_us, ring.generation), reverse=True)
    for older in opened[1:]:
        absorb(opened[0], older)
    return opened[0]
