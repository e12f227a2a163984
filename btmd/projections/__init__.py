"""What is shown: tables made from the log, dropped and rebuilt at any time."""
