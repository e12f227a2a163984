"""The child process that trains; torch lives only here."""
