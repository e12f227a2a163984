"""The daemon's side of backups; btmd.backup is what its child runs."""
