"""Trains the embedded model set on the blocks world."""
