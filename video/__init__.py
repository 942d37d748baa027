"""Canonical-image video editing."""
