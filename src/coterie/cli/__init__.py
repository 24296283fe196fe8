"""The door for the terminal: verbs.py what can be said, door.py signals, errors and exit statuses."""

from coterie.cli.verbs import main

__all__ = ["main"]
