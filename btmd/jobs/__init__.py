"""Jobs from the wish to the report: submission, turn, trainer, progress."""
