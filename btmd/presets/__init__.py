"""Presets: the built-in ones, the own ones, and the files they live in."""
