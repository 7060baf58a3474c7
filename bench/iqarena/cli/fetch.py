"""``fetch``: what a run needs and this package does not bring."""

from __future__ import annotations

import click


@click.group()
def fetch() -> None:
    """Models' weights and image sets: get them, or learn where they are had."""
