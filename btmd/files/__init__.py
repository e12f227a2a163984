"""Files that a person and the daemon share, and files that survive a power cut."""
