"""Models and datasets that were added, and the look into them."""
