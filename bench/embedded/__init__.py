"""Trains the embedded model set on the blocks world."""

DISK_HINT = "free some space, then run the same command again; it goes on from what has been written"
"""What to do where the disk refuses a file of a training."""
