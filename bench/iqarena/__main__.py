"""``python -m iqarena``."""

from iqarena.cli import entry

entry()
