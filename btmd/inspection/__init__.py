"""What runs in a short-lived child: reading datasets and models of unknown quality, away from the daemon."""
