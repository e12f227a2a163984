"""Rows and their tokens: what daemon, inspection and trainer share about text."""
