"""What may happen, and why: pure functions over immutable facts. No IO, no clock, no randomness."""
