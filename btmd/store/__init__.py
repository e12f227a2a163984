"""The event log: one writer, many readers, one SQLite file."""
