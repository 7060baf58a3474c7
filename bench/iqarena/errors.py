"""Errors a user can act on.

Every message is one line: what was expected, what was found, the nearest valid value, the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class IqarenaError(Exception):
    """A mistake the user can mend; the command line prints it without a traceback and exits with 2."""


class SpecError(IqarenaError):
    """A spec string, suite key or parameter that cannot be understood."""


class ImageError(IqarenaError):
    """An image or image folder that cannot be used."""


class WeightsError(IqarenaError):
    """A weights file that is missing, damaged or not what its hash says."""


class ScorerError(IqarenaError):
    """A module or function that is no scorer, or scores that are not finite or not on the scale they should be on."""


class AttackError(IqarenaError):
    """An attack broke its contract (shape, finiteness, access)."""


class StoreError(IqarenaError):
    """A run folder that cannot be read or written."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """``; nearest: 'x', 'y'`` for close matches of ``name``, else ``; valid: …`` with all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    listed = ", ".join(repr(n) for n in (close or names))
    return f"; {'nearest' if close else 'valid'}: {listed}" if names else ""
