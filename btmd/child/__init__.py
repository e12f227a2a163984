"""Short-lived processes that do one piece of work for the daemon: JSON lines, one request in, one answer out."""
