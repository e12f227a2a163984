"""Key file, passphrase, credential and recovery key: each opens its own ring and no other."""

import hashlib
import os
import random
import stat
from pathlib import Path

import pytest

from btmd.backup import key_ring
from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import (
    Secret,
    add_slot,
    credential_secret,
    new_ring,
    open_ring,
    passphrase_secret,
    read_head,
    write_ring,
)
from btmd.backup.keys import Keys, read_key_file, recovery_secret
from btmd.backup.ring_copies import hand_out
from btmd.errors import BtmdError, Damaged, InvalidValue, PartMissing, Tampered, WrongKey
from tests.backup.logs import Place

PROOF = os.environ.get("BTMD_PROOF") == "1"
STORE, NOW_US = "store0001", 1_800_000_000_000_000


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "ARGON2_MEMORY_KIB", 64)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


def ring_in(folder: BackupFolder) -> bytes:
    ((_, data),) = folder.rings(STORE)
    return data


def test_key_and_ring_are_made_once_and_are_private(keys: Keys) -> None:
    ring = keys.open(STORE, NOW_US)
    assert keys.open(STORE, NOW_US + 1) == ring
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (keys.key_path, keys.ring_path)} == {0o600}


def test_every_kind_of_secret_opens_the_ring(keys: Keys) -> None:
    ring = keys.open(STORE, NOW_US)
    keys.set_passphrase(ring, "caf\u00e9 au lait!", NOW_US)
    written_down = keys.new_recovery_key(ring, NOW_US)
    add_slot(ring, credential_secret(b"c" * 32), NOW_US)
    keys.save(ring)
    data = keys.ring_path.read_bytes()
    for secret in (
        keys.secret(),
        passphrase_secret("caf\u00e9 au lait!"),
        passphrase_secret("cafe\u0301 au lait!"),
        credential_secret(b"c" * 32),
        recovery_secret(written_down),
    ):
        assert open_ring(data, secret) == ring


@pytest.mark.parametrize(
    "secret",
    [
        Secret("key_file", bytes(32)),
        passphrase_secret("another passphrase"),
        credential_secret(b"d" * 32),
        Secret("recovery_key", bytes(20)),
    ],
)
def test_a_wrong_secret_says_so_at_once(keys: Keys, secret: Secret) -> None:
    ring = keys.open(STORE, NOW_US)
    keys.set_passphrase(ring, "the right passphrase", NOW_US)
    with pytest.raises(WrongKey) as refused:
        open_ring(keys.ring_path.read_bytes(), secret)
    assert refused.value.exit_code == 8
    assert "key file, passphrase" in refused.value.hint


def test_nothing_secret_stands_in_the_ring_file_or_in_a_repr(keys: Keys) -> None:
    ring = keys.open(STORE, NOW_US)
    data = keys.ring_path.read_bytes()
    secrets = [keys.secret().value, ring.current_key, ring.signing_key]
    assert not any(secret in data for secret in secrets)
    shown = repr((ring, keys.secret(), list(ring.keys.values())))
    assert not any(secret.hex() in shown or repr(secret) in shown for secret in secrets)


def test_a_changed_ring_is_damaged_and_a_forged_one_is_tampered_with(keys: Keys) -> None:
    ring = keys.open(STORE, NOW_US)
    data = keys.ring_path.read_bytes()
    drawn = random.Random(4)
    for _ in range(500 if PROOF else 60):
        flipped = bytearray(data)
        flipped[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
        with pytest.raises(Damaged):
            open_ring(bytes(flipped), keys.secret())
    forged = bytearray(data[:-32])
    forged[-100] ^= 1
    with pytest.raises(Tampered):
        open_ring(bytes(forged) + hashlib.sha256(forged).digest(), keys.secret())
    # Somebody's own ring, made for the public part of my slot: my key fits, but does not vouch for its signer.
    theirs = new_ring(STORE, NOW_US)
    theirs.slots = list(ring.slots)
    with pytest.raises(Tampered):
        open_ring(write_ring(theirs), keys.secret())


def test_rotation_keeps_old_data_readable_and_lets_the_old_key_file_open_nothing_new(keys: Keys) -> None:
    ring = keys.open(STORE, NOW_US)
    old_secret, old_key_id, old_ring = keys.secret(), ring.current, keys.ring_path.read_bytes()
    keys.set_passphrase(ring, "the passphrase", NOW_US)
    keys.rotate(ring, NOW_US)
    again = keys.open(STORE, NOW_US)
    assert again.current != old_key_id
    assert old_key_id in again.opening_keys
    assert open_ring(old_ring, old_secret).current == old_key_id
    with pytest.raises(WrongKey):
        open_ring(keys.ring_path.read_bytes(), old_secret)
    assert open_ring(keys.ring_path.read_bytes(), passphrase_secret("the passphrase")) == again
    assert sorted(path.name for path in keys.folder.iterdir()) == ["key", "ring"]


def test_a_passphrase_that_was_replaced_opens_nothing_new(keys: Keys) -> None:
    ring = keys.open(STORE, NOW_US)
    keys.set_passphrase(ring, "the first one", NOW_US)
    keys.set_passphrase(ring, "the second one", NOW_US)
    data = keys.ring_path.read_bytes()
    assert open_ring(data, passphrase_secret("the second one")) == ring
    with pytest.raises(WrongKey):
        open_ring(data, passphrase_secret("the first one"))


def test_the_recovery_key_is_confirmed_by_typing_it_back(keys: Keys) -> None:
    ring = keys.open(STORE, NOW_US)
    first = keys.new_recovery_key(ring, NOW_US)
    text = keys.new_recovery_key(ring, NOW_US)
    with pytest.raises(WrongKey):
        keys.confirm_recovery_key(ring, first)
    assert not keys.open(STORE, NOW_US).recovery_confirmed
    keys.confirm_recovery_key(ring, text)
    assert keys.open(STORE, NOW_US).recovery_confirmed


def test_with_a_credential_there_is_no_key_file(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys", credential=credential_secret(b"r" * 32))
    ring = keys.open(STORE, NOW_US)
    keys.rotate(ring, NOW_US)
    assert [path.name for path in keys.folder.iterdir()] == ["ring"]
    assert Keys(tmp_path / "keys", credential=credential_secret(b"r" * 32)).open(STORE, NOW_US) == ring
    with pytest.raises(WrongKey):
        Keys(tmp_path / "keys", credential=credential_secret(b"s" * 32)).open(STORE, NOW_US)


def test_lost_damaged_planted_and_foreign_keys_are_told_apart(keys: Keys, tmp_path: Path) -> None:
    keys.open(STORE, NOW_US)
    with pytest.raises(WrongKey):
        keys.open("store0002", NOW_US)
    text = keys.key_path.read_bytes()
    keys.key_path.write_bytes(text[:20] + (b"A" if text[20:21] != b"A" else b"B") + text[21:])
    with pytest.raises(Damaged):
        keys.open(STORE, NOW_US)
    keys.key_path.unlink()
    with pytest.raises(PartMissing, match="key file"):
        keys.open(STORE, NOW_US)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(text)
    keys.key_path.symlink_to(elsewhere)
    with pytest.raises(Tampered, match="link"):
        read_key_file(keys.key_path)
    keys.key_path.unlink()
    keys.key_path.mkdir()
    with pytest.raises(Tampered, match="plain file"):
        read_key_file(keys.key_path)


def test_a_passphrase_slot_with_its_real_cost_opens(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    ring = keys.open(STORE, NOW_US)
    keys.set_passphrase(ring, "a long enough passphrase", NOW_US)
    assert open_ring(keys.ring_path.read_bytes(), passphrase_secret("a long enough passphrase")) == ring
    assert (key_ring.ARGON2_MEMORY_KIB, key_ring.ARGON2_PASSES) == (64 * 1024, 3)


@pytest.mark.parametrize("short", ["", "1234567"])
def test_short_secrets_are_refused(short: str) -> None:
    with pytest.raises(InvalidValue):
        passphrase_secret(short)
    with pytest.raises(InvalidValue):
        credential_secret(short.encode())


def test_an_erased_dataset_key_goes_from_every_folder_within_reach(keys: Keys, tmp_path: Path) -> None:
    ring = keys.open(STORE, NOW_US)
    key_id = keys.dataset_key(ring, "faq", NOW_US)
    assert keys.dataset_key(ring, "faq", NOW_US) == key_id
    folders = [BackupFolder(tmp_path / name) for name in ("near", "far")]
    for folder in folders:
        ring.folders.append(str(folder.path))
    data = keys.save(ring)
    for folder in folders:
        with folder.changing():
            folder.place_ring(data)
    (tmp_path / "far").rename(tmp_path / "unplugged")
    assert keys.erase_dataset(ring, "faq") == 1
    assert hand_out(ring, keys.ring_path.read_bytes()) == [str(tmp_path / "far")]
    near = open_ring(ring_in(folders[0]), keys.secret())
    assert key_id not in near.keys
    assert near.erased == {key_id: "faq"}
    assert not (tmp_path / "far").exists()
    (tmp_path / "unplugged").rename(tmp_path / "far")
    assert hand_out(ring, keys.ring_path.read_bytes()) == []
    assert key_id not in open_ring(ring_in(folders[1]), keys.secret()).keys


def test_an_older_ring_never_takes_the_place_of_a_newer_one(keys: Keys, tmp_path: Path) -> None:
    ring = keys.open(STORE, NOW_US)
    old = keys.ring_path.read_bytes()
    new = keys.save(ring)
    folder = BackupFolder(tmp_path / "backups")
    with folder.changing():
        folder.place_ring(new)
        folder.place_ring(old)
    assert read_head(ring_in(folder)).generation == ring.generation


def test_errors_of_the_ring_have_their_exit_codes() -> None:
    codes: dict[type[BtmdError], int] = {Damaged: 7, WrongKey: 8, Tampered: 9, PartMissing: 10}
    assert all(error.exit_code == code for error, code in codes.items())


def test_a_credential_that_is_new_is_let_in_by_the_key_file(place: Place) -> None:
    ring = place.ring
    credential = credential_secret(b"c" * 32)
    keys = Keys(place.keys.folder, credential=credential)
    assert keys.open(ring.store_id, NOW_US).keys == ring.keys
    place.keys.key_path.unlink()
    assert keys.open(ring.store_id, NOW_US).keys == ring.keys
    with pytest.raises(WrongKey):
        Keys(place.keys.folder, credential=credential_secret(b"d" * 32)).open(ring.store_id, NOW_US)


def test_a_new_key_file_ends_the_lost_one(place: Place) -> None:
    ring = place.ring
    lost = place.keys.secret()
    place.keys.set_passphrase(ring, "correct horse battery", NOW_US)
    place.keys.key_path.unlink()
    place.keys.renew_key_file(ring, NOW_US)
    assert place.keys.open(ring.store_id, NOW_US).keys == ring.keys
    with pytest.raises(WrongKey):
        open_ring(place.keys.ring_path.read_bytes(), lost)
