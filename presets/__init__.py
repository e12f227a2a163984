"""The built-in presets, one TOML file each; see btmd/presets/reading.py."""
