"""Numbered SQL files, applied in order by ``btmd.store.migrations``; a released file never changes."""
