"""The tables of ``migrations/`` as SQLModel classes, for reading; a test compares both.

Rows of the log are read through ``btmd/store/reader.py``, which also knows the condensed ones.
"""

from sqlmodel import Field, SQLModel


class SchemaMigrationRow(SQLModel, table=True):
    __tablename__ = "schema_migrations"

    number: int = Field(primary_key=True)
    name: str
    sha256: str
    applied_at: int


class MetaRow(SQLModel, table=True):
    """The one row about the store. Times in microseconds since the epoch."""

    __tablename__ = "meta"

    one: int = Field(primary_key=True, default=1)
    store_id: str
    created_at: int
    epoch: int
    head_seq: int
    head_hash: bytes
    head_recorded_at: int


class LogColumns(SQLModel):
    """What events and ticks have in common. Times in microseconds since the epoch, hashes 32 bytes."""

    seq: int = Field(primary_key=True)
    epoch: int
    stream: str
    version: int
    event_id: str
    type: str
    schema_version: int
    recorded_at: int
    wall_at: int
    boot_id: str
    actor: str
    correlation_id: str | None = None
    causation_id: str | None = None
    data: str
    prev_hash: bytes
    hash: bytes


class EventRow(LogColumns, table=True):
    __tablename__ = "events"


class TickRow(LogColumns, table=True):
    __tablename__ = "ticks"


class SegmentRow(SQLModel, table=True):
    """Condensed ticks; see ``btmd/store/segments.py``."""

    __tablename__ = "segments"

    first_seq: int = Field(primary_key=True)
    last_seq: int
    row_count: int
    event_seq: int
    encoding: str
    body: bytes
    prev_hash: bytes
    hash: bytes


class SnapshotRow(SQLModel, table=True):
    __tablename__ = "snapshots"

    stream: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    seq: int
    state_version: int
    state: str


class ProjectionPositionRow(SQLModel, table=True):
    __tablename__ = "projection_positions"

    name: str = Field(primary_key=True)
    code_version: int
    position: int
    tables: str
    error: str | None = None


class IdempotencyRow(SQLModel, table=True):
    __tablename__ = "idempotency"

    uid: int = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_hash: str
    response: bytes | None = None
    first_seq: int
    last_seq: int
    created_at: int


TABLES: tuple[type[SQLModel], ...] = (
    SchemaMigrationRow,
    MetaRow,
    EventRow,
    TickRow,
    SegmentRow,
    SnapshotRow,
    ProjectionPositionRow,
    IdempotencyRow,
)
