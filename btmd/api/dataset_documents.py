"""A dataset and its versions as documents, and the one that a request names."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from btmd.api.parts import Parts
from btmd.api.shapes import either, keyed, keyed_by_nothing, null_or, nullable, optional, typed
from btmd.api.times import optional_rfc3339, rfc3339
from btmd.errors import DatasetNotFound
from btmd.inspection.anonymising_facts import Replacements
from btmd.inspection.facts import DatasetFacts, DifferenceFacts
from btmd.naming import find_dataset, find_model
from btmd.projections.dataset import DatasetRow, DatasetVersionRow, dataset_named, version
from btmd.projections.model import ModelRow
from btmd.registry.sources import Source

CONSENT_EXAMPLE = {
    "scopes": ["train"],
    "purpose": "our help desk",
    "consent_by_uid": nullable(1000),
    "consent_at": nullable("2026-11-22T14:00:00.000000Z"),
}
FACTS_EXAMPLE = typed(
    DatasetFacts,
    {
        "format": "jsonl",
        "encoding": "utf-8",
        "separator": None,
        "layout": "question_answer",
        "columns": ["question", "answer"],
        "columns_used": ["question", "answer"],
        "rows_total": 181,
        "rows_kept": 180,
        "rows_broken": 1,
        "rows_empty": 0,
        "duplicates": 21,
        "damaged_characters": 0,
        "broken": [{"line": 21, "reason": "not valid JSON"}],
        "broken_reasons": {"not valid JSON": 1},
        "empty_lines": [],
        "has_split": False,
        "rows_held_out": 0,
        "unknown_splits": 0,
        "turns_total": 360,
        "average_chars": 60.3,
        "longest_chars": 98,
        "sha256": "2d7243faa3e5a560...",
        "size_bytes": 16_210,
        "rows_sha256": "b5bb9d8014a0f9b1...",
        "rows_size_bytes": 26_550,
        "kind": "conversation",
        "byte_order_mark": False,
        "columns_as": {"prompt": "question", "completion": "answer"},
        "unit": "line",
        "files": [],
        "skipped": [],
        "skipped_total": 0,
        "guessed_rows": 0,
        "guessed_lines": [],
    },
)
EXAMPLE = {
    "dataset_id": "faq",
    "number": 17,
    "name": "faq",
    "owner_uid": 1000,
    "source_name": "faq.jsonl",
    "added_at": "2026-11-22T14:00:00.000000Z",
    "removed_at": null_or("2026-11-22T15:00:00.000000Z"),
    "version_id": "0a1b2c3d4e5f6071",
    "rows": 180,
    "size_bytes": 16_210,
    **CONSENT_EXAMPLE,
    "made": "add",
    "stored_bytes": 6_470,
    "source_sha256": "2d7243faa3e5a560...",
    "source_path": "/home/ada/faq.jsonl",
    "source_changed_at": nullable("2026-11-21T09:30:00.000000Z"),
    "mapping": keyed_by_nothing("prompt"),
    # An earlier release did not find out all of it.
    "facts": {name: optional(one) for name, one in FACTS_EXAMPLE.items()},
}
UPDATED_EXAMPLE = typed(
    DifferenceFacts,
    {"rows_added": 12, "rows_removed": 1, "rows_unchanged": 179, "added_lines": [181, 182], "removed_lines": [3]},
)
CLEANED_EXAMPLE = {
    "rows_before": 180,
    "rows": 159,
    "dropped": keyed({"duplicates": {"count": 21, "lines": [14, 15]}}),
}
ANONYMISED_EXAMPLE = typed(
    Replacements,
    {
        "rows_changed": 12,
        "lines": [3, 17],
        "kinds": {"email": {"rows": 12, "findings": 14, "different": 9}},
        "columns": {},
        "names_looked_for": False,
    },
)
VERSION_EXAMPLE = {
    "version_id": "1b2c3d4e5f607182",
    "number": 23,
    "added_at": "2026-11-22T15:00:00.000000Z",
    "source_sha256": "9f86d081884c7d65...",
    "rows_sha256": "60303ae22b998861...",
    "size_bytes": 17_190,
    "rows": 191,
    "parent": nullable("0a1b2c3d4e5f6071"),
    "made": "update",
    "changes": either(UPDATED_EXAMPLE, CLEANED_EXAMPLE, ANONYMISED_EXAMPLE, {}),
    "source_path": "/home/ada/faq.jsonl",
    "source_changed_at": nullable("2026-11-22T14:50:00.000000Z"),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UploadedFile(msgspec.Struct):
    """An uploaded content, and what the file was called."""

    content: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    file_name: Annotated[str, Meta(min_length=1, max_length=1000)]


class UploadedData(UploadedFile):
    """An uploaded file or folder that rows are made of."""

    folder: bool = False
    """The content is the list of a folder's files."""


class UploadedSource(UploadedData):
    """As that, and where it lies."""

    source_path: Annotated[str, Meta(max_length=4096)] = ""
    """Where the file lies, for an update later on; the daemon does not open it."""
    source_changed_at: Annotated[datetime, Meta(tz=True)] | None = None
    """When it was changed last."""

    def source(self, mapping: dict[str, str]) -> Source:
        changed_at = self.source_changed_at or _EPOCH
        return Source(
            content=self.content,
            file_name=self.file_name,
            mapping=mapping,
            path=self.source_path,
            changed_us=(changed_at - _EPOCH) // timedelta(microseconds=1),
            folder=self.folder,
        )


def dataset_json(parts: Parts, row: DatasetRow, newest: DatasetVersionRow) -> dict[str, Any]:
    return {
        "dataset_id": row.dataset_id,
        "number": row.added_seq,
        "name": row.name,
        "owner_uid": row.owner_uid,
        "source_name": row.source_name,
        "added_at": rfc3339(row.added_us),
        "removed_at": optional_rfc3339(row.removed_us),
        "version_id": newest.version_id,
        "rows": newest.rows,
        "size_bytes": newest.size_bytes,
        **consent_json(row),
        "made": newest.made,
        "stored_bytes": parts.contents.stored_bytes([newest.rows_sha256]),
        "source_sha256": newest.source_sha256,
        "source_path": newest.source_path,
        "source_changed_at": optional_rfc3339(newest.source_changed_us or None),
        "mapping": newest.mapping,
        "facts": newest.facts,
    }


def consent_json(row: DatasetRow) -> dict[str, Any]:
    """The consent that a dataset stands under; no scopes where nobody allowed anything."""
    allowed = bool(row.scopes)
    return {
        "scopes": row.scopes,
        "purpose": row.purpose if allowed else "",
        "consent_by_uid": row.consent_by_uid if allowed else None,
        "consent_at": optional_rfc3339(row.consent_us) if allowed else None,
    }


def version_json(row: DatasetVersionRow) -> dict[str, Any]:
    return {
        "version_id": row.version_id,
        "number": row.added_seq,
        "added_at": rfc3339(row.added_us),
        "source_sha256": row.source_sha256,
        "rows_sha256": row.rows_sha256,
        "size_bytes": row.size_bytes,
        "rows": row.rows,
        "parent": row.parent,
        "made": row.made,
        "changes": row.changes,
        "source_path": row.source_path,
        "source_changed_at": optional_rfc3339(row.source_changed_us or None),
    }


async def found_dataset(
    parts: Parts, dataset_id: str, *, removed: bool = False
) -> tuple[DatasetRow, DatasetVersionRow]:
    """The dataset and its newest version; with ``removed`` also one that was. Raises DatasetNotFound, Ambiguous."""
    async with parts.store.session() as session:
        try:
            row = await find_dataset(session, dataset_id, removed=removed)
        except DatasetNotFound as error:
            gone = await dataset_named(session, dataset_id)
            if gone is not None:
                error.detail = f"The dataset {gone.name} was {'erased' if removed else 'removed'}."
                error.hint = "`btmctl datasets list --all` shows what can be had again by adding its file, or erased."
            raise
        newest = await version(session, row.dataset_id, row.newest_version)
    assert newest is not None
    return row, newest


async def named_model(parts: Parts, model_id: str | None) -> ModelRow | None:
    """The model in whose tokens a dataset is looked at, if there is one. Raises ModelNotFound, Ambiguous."""
    if model_id is None:
        return None
    async with parts.store.session() as session:
        return await find_model(session, model_id)
