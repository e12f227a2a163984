"""Measurements; figures go to RESULTS.md. A test never depends on them."""
