"""Attacks that see nothing of the target but its scores."""
