"""A run on disk: rows, keys, manifest."""
