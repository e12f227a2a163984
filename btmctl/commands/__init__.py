"""One module for each noun of the command line, imported only when it is asked for."""
