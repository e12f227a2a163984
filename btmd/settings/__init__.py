"""The settings beside the log: their file, and changes that wait for a yes."""
