"""What is handed to somebody who does not trust this machine: exports of the log, and the report of a job."""
