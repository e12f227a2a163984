-- The event log. Rows written here are read for ever: columns are only ever added, at the end.
--
-- One sequence and one hash chain run across `events` and `ticks`. The guards demand what the one writer
-- does anyway, so that no other program, and no mistake of ours, can change or slip in a row unseen.

CREATE TABLE schema_migrations (
    number     INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    sha256     TEXT    NOT NULL,
    applied_at INTEGER NOT NULL
);

-- The one row about this store. The head is stored apart from the rows: a tail that was cut off is noticed.
CREATE TABLE meta (
    one              INTEGER PRIMARY KEY CHECK (one = 1),
    store_id         TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    epoch            INTEGER NOT NULL,
    head_seq         INTEGER NOT NULL,
    head_hash        BLOB    NOT NULL CHECK (typeof(head_hash) = 'blob' AND length(head_hash) = 32),
    head_recorded_at INTEGER NOT NULL
);

CREATE TABLE events (
    seq            INTEGER PRIMARY KEY,
    epoch          INTEGER NOT NULL,
    stream         TEXT    NOT NULL CHECK (stream NOT GLOB 'ticks-*'),
    version        INTEGER NOT NULL CHECK (typeof(version) = 'integer' AND version > 0),
    event_id       TEXT    NOT NULL UNIQUE,
    type           TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL CHECK (typeof(recorded_at) = 'integer'),
    wall_at        INTEGER NOT NULL CHECK (typeof(wall_at) = 'integer'),
    boot_id        TEXT    NOT NULL,
    actor          TEXT    NOT NULL,
    correlation_id TEXT,
    causation_id   TEXT,
    data           TEXT    NOT NULL,
    prev_hash      BLOB    NOT NULL CHECK (typeof(prev_hash) = 'blob'),
    hash           BLOB    NOT NULL CHECK (typeof(hash) = 'blob' AND length(hash) = 32),
    UNIQUE (stream, version)
);

CREATE TABLE ticks (
    seq            INTEGER PRIMARY KEY,
    epoch          INTEGER NOT NULL,
    stream         TEXT    NOT NULL CHECK (stream GLOB 'ticks-*'),
    version        INTEGER NOT NULL CHECK (typeof(version) = 'integer' AND version > 0),
    event_id       TEXT    NOT NULL UNIQUE,
    type           TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL CHECK (typeof(recorded_at) = 'integer'),
    wall_at        INTEGER NOT NULL CHECK (typeof(wall_at) = 'integer'),
    boot_id        TEXT    NOT NULL,
    actor          TEXT    NOT NULL,
    correlation_id TEXT,
    causation_id   TEXT,
    data           TEXT    NOT NULL,
    prev_hash      BLOB    NOT NULL CHECK (typeof(prev_hash) = 'blob'),
    hash           BLOB    NOT NULL CHECK (typeof(hash) = 'blob' AND length(hash) = 32),
    UNIQUE (stream, version)
);

-- A lossless, compressed copy of every tick row from first_seq to last_seq, linked to the segment before it
-- and announced by the event `event_seq`. Only rows that a segment covers may leave `ticks`.
CREATE TABLE segments (
    first_seq INTEGER PRIMARY KEY,
    last_seq  INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    event_seq INTEGER NOT NULL UNIQUE REFERENCES events (seq),
    encoding  TEXT    NOT NULL,
    body      BLOB    NOT NULL CHECK (typeof(body) = 'blob'),
    prev_hash BLOB    NOT NULL CHECK (typeof(prev_hash) = 'blob'),
    hash      BLOB    NOT NULL CHECK (typeof(hash) = 'blob' AND length(hash) = 32),
    CHECK (last_seq >= first_seq AND event_seq > last_seq AND row_count > 0)
);

-- Rows that stand in tables. The log reader (btmd/store/reader.py) reads this view and puts the rows of
-- segments back into their places: SQL cannot unpack them.
CREATE VIEW log AS
    SELECT seq, epoch, stream, version, event_id, type, schema_version, recorded_at, wall_at, boot_id, actor,
           correlation_id, causation_id, data, prev_hash, hash FROM events
    UNION ALL
    SELECT seq, epoch, stream, version, event_id, type, schema_version, recorded_at, wall_at, boot_id, actor,
           correlation_id, causation_id, data, prev_hash, hash FROM ticks;

-- Before INSERT: INSERT OR REPLACE would pass the triggers on UPDATE and DELETE.
CREATE TRIGGER events_insert_guard BEFORE INSERT ON events BEGIN
    SELECT RAISE(ABORT, 'event log: the store has no head') WHERE NOT EXISTS (SELECT 1 FROM meta);
    SELECT RAISE(ABORT, 'event log: seq must be head + 1') FROM meta WHERE NEW.seq IS NOT head_seq + 1;
    SELECT RAISE(ABORT, 'event log: prev_hash must be the hash of the head') FROM meta
     WHERE NEW.prev_hash IS NOT head_hash;
    SELECT RAISE(ABORT, 'event log: another epoch') FROM meta WHERE NEW.epoch IS NOT epoch;
    SELECT RAISE(ABORT, 'event log: recorded_at must grow') FROM meta WHERE NEW.recorded_at <= head_recorded_at;
    SELECT RAISE(ABORT, 'event log: rows are never replaced') FROM events
     WHERE event_id = NEW.event_id OR (stream = NEW.stream AND version = NEW.version);
END;
CREATE TRIGGER ticks_insert_guard BEFORE INSERT ON ticks BEGIN
    SELECT RAISE(ABORT, 'event log: the store has no head') WHERE NOT EXISTS (SELECT 1 FROM meta);
    SELECT RAISE(ABORT, 'event log: seq must be head + 1') FROM meta WHERE NEW.seq IS NOT head_seq + 1;
    SELECT RAISE(ABORT, 'event log: prev_hash must be the hash of the head') FROM meta
     WHERE NEW.prev_hash IS NOT head_hash;
    SELECT RAISE(ABORT, 'event log: another epoch') FROM meta WHERE NEW.epoch IS NOT epoch;
    SELECT RAISE(ABORT, 'event log: recorded_at must grow') FROM meta WHERE NEW.recorded_at <= head_recorded_at;
    SELECT RAISE(ABORT, 'event log: rows are never replaced') FROM ticks
     WHERE event_id = NEW.event_id OR (stream = NEW.stream AND version = NEW.version);
END;

CREATE TRIGGER events_move_head AFTER INSERT ON events BEGIN
    UPDATE meta SET head_seq = NEW.seq, head_hash = NEW.hash, head_recorded_at = NEW.recorded_at;
END;
CREATE TRIGGER ticks_move_head AFTER INSERT ON ticks BEGIN
    UPDATE meta SET head_seq = NEW.seq, head_hash = NEW.hash, head_recorded_at = NEW.recorded_at;
END;

CREATE TRIGGER events_never_updated BEFORE UPDATE ON events BEGIN
    SELECT RAISE(ABORT, 'event log: rows are never changed');
END;
CREATE TRIGGER events_never_deleted BEFORE DELETE ON events BEGIN
    SELECT RAISE(ABORT, 'event log: rows are never deleted');
END;
CREATE TRIGGER ticks_never_updated BEFORE UPDATE ON ticks BEGIN
    SELECT RAISE(ABORT, 'event log: rows are never changed');
END;
CREATE TRIGGER ticks_deleted_only_when_condensed BEFORE DELETE ON ticks BEGIN
    SELECT RAISE(ABORT, 'event log: rows are never deleted')
     WHERE NOT EXISTS (SELECT 1 FROM segments WHERE first_seq <= OLD.seq AND last_seq >= OLD.seq);
END;

CREATE TRIGGER segments_insert_guard BEFORE INSERT ON segments BEGIN
    SELECT RAISE(ABORT, 'segments: ranges must follow one another')
     WHERE EXISTS (SELECT 1 FROM segments WHERE last_seq >= NEW.first_seq);
    SELECT RAISE(ABORT, 'segments: prev_hash must be the hash of the segment before')
     WHERE NEW.prev_hash IS NOT
           coalesce((SELECT hash FROM segments ORDER BY first_seq DESC LIMIT 1), zeroblob(32));
    SELECT RAISE(ABORT, 'segments: every tick of the range must be in it')
     WHERE NEW.row_count <> (SELECT count(*) FROM ticks WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq);
    SELECT RAISE(ABORT, 'segments: no event announces it')
     WHERE NOT EXISTS (SELECT 1 FROM events WHERE seq = NEW.event_seq AND type = 'TicksCondensed'
                          AND json_extract(data, '$.segment_hash') = lower(hex(NEW.hash)));
END;
CREATE TRIGGER segments_never_updated BEFORE UPDATE ON segments BEGIN
    SELECT RAISE(ABORT, 'segments: rows are never changed');
END;
CREATE TRIGGER segments_never_deleted BEFORE DELETE ON segments BEGIN
    SELECT RAISE(ABORT, 'segments: rows are never deleted');
END;

-- The head moves with a row that is there, one at a time; or a restored store begins a new epoch.
CREATE TRIGGER meta_update_guard BEFORE UPDATE ON meta
WHEN NOT (
    NEW.one = OLD.one AND NEW.store_id = OLD.store_id AND NEW.created_at = OLD.created_at
    AND (
        (NEW.epoch = OLD.epoch AND NEW.head_seq = OLD.head_seq + 1
         AND EXISTS (SELECT 1 FROM log WHERE seq = NEW.head_seq AND hash = NEW.head_hash
                        AND recorded_at = NEW.head_recorded_at))
        OR (NEW.epoch > OLD.epoch AND NEW.head_seq = OLD.head_seq AND NEW.head_hash = OLD.head_hash
            AND NEW.head_recorded_at = OLD.head_recorded_at)
    )
)
BEGIN
    SELECT RAISE(ABORT, 'meta: the head moves only with a row');
END;
CREATE TRIGGER meta_only_one BEFORE INSERT ON meta WHEN EXISTS (SELECT 1 FROM meta) BEGIN
    SELECT RAISE(ABORT, 'meta: there is one row');
END;
CREATE TRIGGER meta_never_deleted BEFORE DELETE ON meta BEGIN
    SELECT RAISE(ABORT, 'meta: the row is never deleted');
END;

-- State of an aggregate at a position; derived, may be dropped at any time.
CREATE TABLE snapshots (
    stream        TEXT    NOT NULL,
    version       INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    state_version INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    PRIMARY KEY (stream, version)
) WITHOUT ROWID;

CREATE TABLE projection_positions (
    name         TEXT    PRIMARY KEY NOT NULL,
    code_version INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    tables       TEXT    NOT NULL,
    error        TEXT
) WITHOUT ROWID;

-- Answers kept for 24 hours, written in the transaction of the events they made.
CREATE TABLE idempotency (
    uid          INTEGER NOT NULL,
    key          TEXT    NOT NULL,
    request_hash TEXT    NOT NULL,
    response     BLOB,
    first_seq    INTEGER NOT NULL,
    last_seq     INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (uid, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);
