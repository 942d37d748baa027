"""Worlds with exact truth, dataset readers and the papers' tables."""
