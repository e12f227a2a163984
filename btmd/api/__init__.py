"""The HTTP door: one noun a file, and what they share."""
