"""Backups of the event log: encrypted segments, manifests over them, keys, retention, recovery."""
