"""Plugins by name, and plugins built from spec strings."""
