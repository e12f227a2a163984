"""The keys of this machine: the state folder's ``keys``, with the key file and the leading copy of the ring.

Neither the key file nor the folder is ever copied into a backup folder; only the ring is, which nothing opens without a
secret.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from btmd.backup.key_ring import (
    KeyRing,
    Secret,
    absorb,
    add_data_key,
    add_slot,
    matching_slot,
    new_ring,
    open_ring,
    passphrase_secret,
    read_head,
    write_ring,
)
from btmd.backup.private_files import folder_errors, make_private_folder, read_private, remove_left_overs, write_private
from btmd.backup.recovery_key import KEY_BYTES, read_recovery_key, write_recovery_key
from btmd.backup.ring_copies import RENEW_HINT, knows_store, open_copies
from btmd.errors import BtmdError, Damaged, PartMissing, WrongKey
from btmd.files.durable import sync_folder

_KEY_FILE_START = b"btmd-key-1:"


class Keys:
    """Opens, makes, changes and hands out the key ring of one store."""

    def __init__(
        self, folder: Path, *, credential: Secret | None = None, copies: Sequence[Path] = (), made_before: bool = False
    ) -> None:
        """``credential`` takes the place of the key file where systemd gives one. ``copies`` are backup folders.

        ``made_before``: the log tells of backups or keys, so that keys which are not here are lost.
        """
        self.folder = folder
        self.key_path = folder / "key"
        self.ring_path = folder / "ring"
        self._next_key_path = folder / "key.next"
        self._credential = credential
        self._copies = tuple(copies)
        self._made_before = made_before

    def open(self, store_id: str, now_us: int, *, make: bool = True) -> KeyRing:
        """The store's ring; key and ring are made at the first use, where ``make`` allows it.

        A rotation that was cut off is finished, and a ring that is lost or damaged comes back from a backup folder.
        Raises WrongKey, Damaged, Tampered, PartMissing where the key file is gone, BackupFolderFull,
        BackupFolderUnusable.
        """
        with folder_errors(self.folder):
            if os.path.lexists(self.folder):
                make_private_folder(self.folder)
                remove_left_overs(self.folder)
            if not self.were_made(store_id):
                if not make:
                    raise PartMissing("There are no keys yet.", hint="`btmctl backup create` makes them.")
                make_private_folder(self.folder)
                return self._create(store_id, now_us)
            ring = self._open_ring(store_id, now_us)
            self._finish_rotation(ring)
        if ring.store_id != store_id:
            raise WrongKey(
                f"The keys in {self.folder} belong to the store {ring.store_id}, not to {store_id}.",
                hint="Move that folder away, or put the database back that belongs to it.",
            )
        return ring

    def were_made(self, store_id: str) -> bool:
        """Whether the store has or had keys: here, by what the log tells, or by what the backup folders hold."""
        return (
            os.path.lexists(self.ring_path)
            or self._made_before
            or any(knows_store(folder, store_id) for folder in self._copies)
        )

    def open_with(self, secret: Secret, store_id: str, now_us: int) -> KeyRing:
        """The ring by a secret that a person gives: the one here, else a copy in a backup folder that the secret opens.

        Raises WrongKey, Damaged, Tampered, PartMissing.
        """
        own: BtmdError
        signer = None
        with folder_errors(self.folder):
            try:
                data = read_private(self.ring_path)
                # An older copy of the same ring would let in a secret that was replaced.
                signer = read_head(data).signer
                return open_ring(data, secret)
            except (WrongKey, Damaged, PartMissing) as error:
                own = error
            try:
                ring = open_copies(self._copies, secret, store_id, not_of=signer)
            except PartMissing:
                raise own from None
            except WrongKey as error:
                raise (own if isinstance(own, WrongKey) else error) from None
            self._join_with_own(ring, now_us)
        return ring

    def secret(self) -> Secret:
        """What opens the ring without a person. Raises PartMissing, Damaged."""
        return self._credential or read_key_file(self.key_path)

    def save(self, ring: KeyRing) -> bytes:
        """Write the ring; returns the file's bytes, for the backup folders."""
        data = write_ring(ring)
        with folder_errors(self.folder):
            write_private(self.ring_path, data)
        return data

    def adopt(self, ring: KeyRing, now_us: int) -> None:
        """Take over the ring of a backup folder after a recovery: with a key file of this machine."""
        with folder_errors(self.folder):
            make_private_folder(self.folder)
            self._join_with_own(ring, now_us)
            secret = self._credential
            if secret is None:
                if not self.key_path.exists():
                    _write_key_file(self.key_path)
                secret = read_key_file(self.key_path)
        if matching_slot(ring.slots, secret) is None:
            add_slot(ring, secret, now_us)
        self.save(ring)

    def begin_anew(self, store_id: str, now_us: int) -> KeyRing:
        """New keys where nothing opens the old ones any more; a ring or key file that cannot be read is kept aside."""
        ring = new_ring(store_id, now_us)
        with folder_errors(self.folder):
            make_private_folder(self.folder)
            self._join_with_own(ring, now_us)
            if self._credential is None and os.path.lexists(self.key_path):
                os.replace(self.key_path, self.folder / f"key.before-{now_us}")
        self.adopt(ring, now_us)
        return ring

    def _join_with_own(self, ring: KeyRing, now_us: int) -> None:
        """Keys that only the ring which stands here knows are not lost; one of another store is kept aside."""
        if not self.ring_path.exists():
            return
        try:
            own = open_ring(read_private(self.ring_path), self.secret())
        except BtmdError:
            own = None
        if own is not None and own.store_id == ring.store_id:
            absorb(ring, own)
        else:
            os.replace(self.ring_path, self.folder / f"ring.before-recovery-{now_us}")

    def renew_key_file(self, ring: KeyRing, now_us: int) -> None:
        """A new key file for a ring that was opened without it; the one that was there, if any, opens nothing more."""
        with folder_errors(self.folder):
            make_private_folder(self.folder)
            self.key_path.unlink(missing_ok=True)
            _write_key_file(self.key_path)
            add_slot(ring, read_key_file(self.key_path), now_us)
            self.save(ring)
            self._finish_rotation(ring)

    def dataset_key(self, ring: KeyRing, dataset_id: str, now_us: int) -> str:
        """The id of the dataset's key, made and saved at its first use."""
        key_id = ring.dataset_key_id(dataset_id)
        if key_id is None:
            key_id = add_data_key(ring, now_us, dataset_id)
            self.save(ring)
        return key_id

    def erase_dataset(self, ring: KeyRing, dataset_id: str) -> int:
        """Forget the dataset's keys, so that what they sealed can never be read again; returns how many there were.

        Hand the ring to the backup folders afterwards (``hand_out``): until then their copies hold them.
        """
        gone = [key_id for key_id, held in ring.keys.items() if held.dataset_id == dataset_id]
        for key_id in gone:
            del ring.keys[key_id]
            ring.erased[key_id] = dataset_id
        if gone:
            self.save(ring)
        return len(gone)

    def rotate(self, ring: KeyRing, now_us: int) -> None:
        """A new key file and a new data key for what comes; what is there stays readable and is not written anew.

        Passphrase and recovery key stay valid. Killed at any moment, the old key or the new one opens the ring.
        """
        ring.current = add_data_key(ring, now_us)
        if self._credential is not None:
            self.save(ring)
            return
        with folder_errors(self.folder):
            self._next_key_path.unlink(missing_ok=True)
            _write_key_file(self._next_key_path)
            add_slot(ring, read_key_file(self._next_key_path), now_us)
            self.save(ring)
            self._finish_rotation(ring)

    def set_passphrase(self, ring: KeyRing, passphrase: str, now_us: int) -> None:
        """Takes the place of an earlier one. Raises InvalidValue."""
        self._replace_slot(ring, passphrase_secret(passphrase), now_us)

    def new_recovery_key(self, ring: KeyRing, now_us: int) -> str:
        """A recovery key to write down, which takes the place of an earlier one; it is kept nowhere."""
        key = os.urandom(KEY_BYTES)
        ring.recovery_confirmed = False
        self._replace_slot(ring, Secret("recovery_key", key), now_us)
        return write_recovery_key(key)

    def confirm_recovery_key(self, ring: KeyRing, text: str) -> None:
        """Somebody typed it back. Raises RecoveryKeyMistyped, WrongKey."""
        if matching_slot(ring.slots, recovery_secret(text)) is None:
            raise WrongKey(
                "This is a recovery key, but not the newest one of this store.",
                hint="`btmctl backup key show-recovery` makes a new one.",
            )
        if not ring.recovery_confirmed:
            ring.recovery_confirmed = True
            self.save(ring)

    def _replace_slot(self, ring: KeyRing, secret: Secret, now_us: int) -> None:
        ring.slots = [slot for slot in ring.slots if slot.kind != secret.kind]
        add_slot(ring, secret, now_us)
        self.save(ring)

    def _create(self, store_id: str, now_us: int) -> KeyRing:
        if self._credential is None and not self.key_path.exists():
            _write_key_file(self.key_path)
        ring = new_ring(store_id, now_us)
        add_slot(ring, self.secret(), now_us)
        self.save(ring)
        return ring

    def _open_ring(self, store_id: str, now_us: int) -> KeyRing:
        secret = self.secret()
        try:
            data = read_private(self.ring_path)
            read_head(data)
        except (PartMissing, Damaged) as error:
            return self._ring_from_copies(error, secret, store_id)
        try:
            return open_ring(data, secret)
        except WrongKey:
            if self._credential is None or not self.key_path.exists():
                raise
        # The credential is new here: the key file that opened the ring until now lets it in.
        ring = open_ring(data, read_key_file(self.key_path))
        add_slot(ring, self._credential, now_us)
        self.save(ring)
        return ring

    def _ring_from_copies(self, fault: BtmdError, secret: Secret, store_id: str) -> KeyRing:
        """Never a new one: with it, nothing would open what was backed up so far."""
        what = "is damaged" if isinstance(fault, Damaged) else "is missing"
        try:
            ring = open_copies(self._copies, secret, store_id)
        except (PartMissing, WrongKey) as error:
            raise type(error)(f"The key ring {self.ring_path} {what}. {error.detail}", hint=RENEW_HINT) from error
        make_private_folder(self.folder)
        self.save(ring)
        return ring

    def _finish_rotation(self, ring: KeyRing) -> None:
        if self._credential is not None:
            return
        if self._next_key_path.exists():
            if matching_slot(ring.slots, read_key_file(self._next_key_path)) is None:
                # Killed before the ring knew the new key: the old one holds.
                self._next_key_path.unlink()
            else:
                os.replace(self._next_key_path, self.key_path)
                sync_folder(self.folder)
        if sum(slot.kind == "key_file" for slot in ring.slots) > 1:
            mine = matching_slot(ring.slots, read_key_file(self.key_path))
            ring.slots = [slot for slot in ring.slots if slot.kind != "key_file" or slot is mine]
            self.save(ring)


def recovery_secret(text: str) -> Secret:
    """Raises RecoveryKeyMistyped."""
    return Secret("recovery_key", read_recovery_key(text))


def read_key_file(path: Path) -> Secret:
    """Raises PartMissing, Damaged, Tampered."""
    try:
        text = read_private(path).strip()
    except PartMissing:
        raise PartMissing(
            f"The key file {path} is missing.",
            hint="Put it back, or use another secret: `btmctl backup key renew --recovery-key` or --passphrase;"
            " where no daemon runs, `btmctl recover --from PATH --recovery-key`.",
        ) from None
    try:
        if not text.startswith(_KEY_FILE_START):
            raise ValueError("not a key file")
        value = base64.b32decode(text.removeprefix(_KEY_FILE_START))
        if len(value) != 35 or _checksum(value[:32]) != value[32:]:
            raise ValueError("checksum")
    except ValueError:
        raise Damaged(
            f"{path} is not a whole key file.", hint=f"Put another copy of it there, or: {RENEW_HINT}"
        ) from None
    return Secret("key_file", value[:32])


def _write_key_file(path: Path) -> None:
    value = os.urandom(32)
    # 35 bytes make 56 characters of base 32 without padding; the last three are a checksum against a torn copy.
    write_private(path, _KEY_FILE_START + base64.b32encode(value + _checksum(value)) + b"\n")


def _checksum(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()[:3]
