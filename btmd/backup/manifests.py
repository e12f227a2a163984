"""A manifest: what one backup is made of, and what it is not.

The header can be read without a key: kind, time, store, size, and as the file's named ids all the parts. So a list, a
check of the checksums, and clearing away what no manifest names need no key. The rest is sealed with the data key.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import zstandard

from btmd.backup.folder import BackupFolder
from btmd.backup.sealed_file import check_whole, open_sealed, read_prologue
from btmd.errors import Damaged, Tampered

FORMAT = 1
ID_DIGITS = 16
"""A backup's id for people is the beginning of its manifest's name."""

BackupKind = Literal["config", "full", "selective"]
ArtefactKind = Literal["dataset", "adapter", "answers", "answers_key"]


class ManifestHeader(msgspec.Struct, frozen=True):
    """``size_bytes`` is what all parts take, shared ones included, without the manifest itself."""

    kind: str
    format: int
    key_id: str
    backup_kind: BackupKind
    created_at_us: int
    store_id: str
    epoch: int
    head_seq: int
    size_bytes: int
    segment_count: int


class StoredArtefact(msgspec.Struct, frozen=True):
    """A file of a dataset or a job, and the object that holds it.

    ``owner`` is the dataset's or job's id, ``name`` a plain file name, ``content_sha256`` that of the file itself.
    """

    kind: ArtefactKind
    owner: str
    name: str
    content_sha256: str
    size_bytes: int
    object_id: str
    key_id: str


class Omission(msgspec.Struct, frozen=True):
    """Something that the backup does not hold, and what a restore would then miss."""

    what: str
    count: int
    size_bytes: int
    then: str


class Manifest(msgspec.Struct, frozen=True):
    """A backup. ``head_hash`` and ``state_hash`` are hex; ``parts_sizes`` are bytes in the order of the parts."""

    backup_kind: BackupKind
    created_at_us: int
    description: str
    cause: str
    store_id: str
    store_created_at_us: int
    epoch: int
    head_seq: int
    head_hash: str
    events: int
    segments: tuple[str, ...]
    part_sizes: tuple[int, ...]
    state_hash: str
    state_code: str
    components: tuple[str, ...]
    artefacts: tuple[StoredArtefact, ...]
    omissions: tuple[Omission, ...]
    btmd_version: str
    schema: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Every object that the backup needs, once."""
        return tuple(dict.fromkeys((*self.segments, *(artefact.object_id for artefact in self.artefacts))))

    @property
    def artefact_sizes(self) -> tuple[int, ...]:
        """What each artefact takes in the folder, in bytes."""
        sizes = dict(zip(self.parts, self.part_sizes, strict=True))
        return tuple(sizes[artefact.object_id] for artefact in self.artefacts)


class Summary(msgspec.Struct, frozen=True):
    """What ``list`` shows of a backup without a key; ``fault`` is the error's code where it cannot be read."""

    name: str
    header: ManifestHeader | None
    parts: tuple[str, ...]
    fault: str = ""

    @property
    def backup_id(self) -> str:
        return self.name[:ID_DIGITS]


_PACK = zstandard.ZstdCompressor(level=19, write_checksum=True)


def write_manifest(folder: BackupFolder, manifest: Manifest, *, key_id: str, key: bytes) -> str:
    """Seal and place the manifest; returns its name. With this, the backup is there."""
    header = ManifestHeader(
        kind="manifest",
        format=FORMAT,
        key_id=key_id,
        backup_kind=manifest.backup_kind,
        created_at_us=manifest.created_at_us,
        store_id=manifest.store_id,
        epoch=manifest.epoch,
        head_seq=manifest.head_seq,
        size_bytes=sum(manifest.part_sizes),
        segment_count=len(manifest.segments),
    )
    # The parts stand in the header already: here they would only be the same bytes again.
    body = msgspec.structs.replace(
        manifest,
        segments=(),
        artefacts=tuple(msgspec.structs.replace(one, object_id="") for one in manifest.artefacts),
    )
    positions = {name: at for at, name in enumerate(manifest.parts)}
    places = [positions[artefact.object_id] for artefact in manifest.artefacts]
    packed = _PACK.compress(msgspec.msgpack.encode((places, body)))
    return folder.put_manifest(msgspec.to_builtins(header), key, packed, manifest.parts).id


def read_summary(folder: BackupFolder, name: str) -> Summary:
    """The header alone. Raises PartMissing, Damaged, Tampered."""
    with folder.open(name, is_manifest=True) as file:
        check_whole(file, name)
        prologue = read_prologue(file, name)
    return Summary(name, _header(prologue.header, name), prologue.names)


def read_manifest(folder: BackupFolder, name: str, keys: Mapping[str, bytes]) -> Manifest:
    """Raises PartMissing, Damaged, Tampered, WrongKey."""
    with folder.open(name, is_manifest=True) as file:
        prologue, blocks = open_sealed(file, name, keys)
        packed = b"".join(blocks)
    header = _header(prologue.header, name)
    try:
        places, body = msgspec.msgpack.decode(
            zstandard.ZstdDecompressor().decompress(packed), type=tuple[list[int], Manifest]
        )
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise Damaged(f"The backup {name[:ID_DIGITS]} cannot be unpacked.", hint="Use another backup.") from error
    names = prologue.names
    if header.segment_count > len(names) or len(set(names)) != len(names) or any(at >= len(names) for at in places):
        raise Tampered(
            f"The backup {name[:ID_DIGITS]} was tampered with: its parts are not those that it tells of.",
            hint="Use another copy of the backup folder. Nothing was changed.",
        )
    return msgspec.structs.replace(
        body,
        segments=names[: header.segment_count],
        artefacts=tuple(
            msgspec.structs.replace(one, object_id=names[at]) for one, at in zip(body.artefacts, places, strict=True)
        ),
    )


def newest(summaries: Sequence[Summary], kind: BackupKind | None = None) -> list[Summary]:
    """Readable summaries of one kind (None: any), newest first."""
    found = [one for one in summaries if one.header is not None and kind in (None, one.header.backup_kind)]
    return sorted(found, key=_age, reverse=True)


def _age(summary: Summary) -> tuple[int, int, str]:
    assert summary.header is not None
    return summary.header.created_at_us, summary.header.head_seq, summary.name


def _header(found: dict[str, Any], name: str) -> ManifestHeader:
    try:
        header = msgspec.convert(found, ManifestHeader)
    except msgspec.ValidationError:
        header = None
    if header is None or header.kind != "manifest" or header.format != FORMAT:
        raise Tampered(
            f"The backup {name[:ID_DIGITS]} was tampered with: it is no manifest that this btmd knows.",
            hint="Use another copy of the backup folder. Nothing was changed.",
        )
    return header
