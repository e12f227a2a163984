"""Files that mirror the log: what a person saves becomes events, what the log says becomes the file."""
