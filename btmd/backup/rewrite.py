"""A backup's many short segments written anew as few long ones, from the segments themselves."""

import msgspec

from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import KeyRing
from btmd.backup.manifests import Manifest, Summary, read_manifest, write_manifest
from btmd.backup.segments import MAX_ROWS, parts_of, read_chain, write_segment
from btmd.store.recorded import genesis_hash
from btmd.store.row_columns import pack_rows


def would_shrink(summary: Summary) -> bool:
    """Whether the backup has more segments than its events need."""
    assert summary.header is not None
    return summary.header.segment_count > 1 + summary.header.head_seq // (MAX_ROWS // 2)


def write_anew(folder: BackupFolder, name: str, ring: KeyRing) -> str:
    """A second manifest for the same backup over new segments, with the newest key; returns its name.

    The old one stays until the caller deletes it. Raises PartMissing, Damaged, Tampered, WrongKey.
    """
    manifest = read_manifest(folder, name, ring.opening_keys)
    segments: list[str] = []
    sizes: dict[str, int] = {}
    for rows in parts_of(
        read_chain(folder, manifest.segments, ring.opening_keys, store_id=manifest.store_id, genesis=_genesis(manifest))
    ):
        sealed = write_segment(
            folder,
            rows,
            pack_rows(rows),
            store_id=manifest.store_id,
            key_id=ring.current,
            key=ring.current_key,
            previous=segments[-1] if segments else "",
            schema=manifest.schema,
            whole=manifest.backup_kind == "full",
        )
        segments.append(sealed.id)
        sizes[sealed.id] = sealed.size_bytes
    for artefact, size_bytes in zip(manifest.artefacts, manifest.artefact_sizes, strict=True):
        sizes[artefact.object_id] = size_bytes
    anew = msgspec.structs.replace(manifest, segments=tuple(segments))
    anew = msgspec.structs.replace(anew, part_sizes=tuple(sizes[part] for part in anew.parts))
    return write_manifest(folder, anew, key_id=ring.current, key=ring.current_key)


def _genesis(manifest: Manifest) -> bytes | None:
    return genesis_hash(manifest.store_id) if manifest.backup_kind == "full" else None
