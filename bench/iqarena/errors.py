"""Errors a user can act on.

Every message is one line: what was expected, what was found, the nearest valid value, the next step.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
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


class Stopped(KeyboardInterrupt):
    """^C, or SIGTERM, while something ran that does not end: a thread of this process may still be at it."""


_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links
    r"|\x1b[ -/]*[0-~]"
)


def plain(message: str) -> str:
    """A message of somebody else's as one line that any terminal and file takes: no escapes, controls or surrogates."""
    line = " ".join(_ESCAPES.sub("", message).split())
    return "".join(char for char in line if unicodedata.category(char) not in ("Cc", "Cs"))


def nearest(name: str, valid: Iterable[str]) -> str:
    """``; nearest: 'x', 'y'`` for close matches of ``name``, else ``; valid: …`` with all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    listed = ", ".join(repr(n) for n in (close or names))
    return f"; {'nearest' if close else 'valid'}: {listed}" if names else ""
