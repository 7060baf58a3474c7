"""What all plugins are: named, versioned, immutable sets of parameters."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from iqarena.api.bounds import check_bounds
from iqarena.api.spec import format_number
from iqarena.errors import IqarenaError

PACKAGES = ("iqarena", "iqarena_attacks", "iqarena_models")  # what comes with iqarena


@dataclass(frozen=True, kw_only=True, repr=False)
class Plugin(ABC):  # noqa: B024 (its kinds have abstract methods)
    """A named, versioned, immutable set of parameters; ``repr`` is its spec string with all of them.

    ``version`` must be raised when the same spec starts to give other numbers, as it does when a default changes.
    ``distribution`` is the installed package, with its version, that a plugin comes from when that is not iqarena; the
    registry fills it in. Bounds of parameters are data (see :mod:`iqarena.api.bounds`), checked here.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    bibtex: ClassVar[str] = ""
    reconstructed: ClassVar[str] = ""  # what is our reconstruction rather than the paper's, in one sentence
    distribution: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_defaults(type(self))
        check_bounds(self)

    def __repr__(self) -> str:
        return self._spec(dataclasses.fields(self), repr)

    @property
    def label(self) -> str:
        """The spec with default values left out, those of plugins among its parameters too.

        Columns, plots and file names show it; results are kept, and random numbers are drawn, under it, so that a new
        parameter with a default changes neither.
        """
        changed = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return self._spec(changed, lambda plugin: plugin.label)

    @property
    def code_sha256(self) -> str:
        """Hash of the source files that define it; empty for what comes with iqarena (``version`` speaks for that)."""
        return code_sha256(type(self))

    def _spec(self, fields: Sequence[dataclasses.Field[Any]], nested: Callable[[Plugin], str]) -> str:
        if not fields:
            return self.name
        return f"{self.name}({', '.join(f'{f.name}={_text(getattr(self, f.name), nested)}' for f in fields)})"


def _text(value: object, nested: Callable[[Plugin], str]) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return format_number(value)
    return nested(value) if isinstance(value, Plugin) else str(value)


def check_defaults(cls: type[Plugin]) -> None:
    """Raise :class:`IqarenaError` for a default that ``cls`` writes and its parameters do not have."""
    for one in dataclasses.fields(cls):
        written = getattr(cls, one.name, one.default)
        if written != one.default and not inspect.isdatadescriptor(written):  # as under slots=True
            value = _text(written, repr)
            raise IqarenaError(
                f"{cls.name!r}: {one.name} = {value} would be ignored; annotate it, {one.name}:"
                f" {type(written).__name__} = {value}, in a class under"
                " @dataclass(frozen=True, kw_only=True, repr=False)"
            )


@cache
def code_sha256(cls: type[Plugin]) -> str:
    """One hash of the files of ``cls`` and of the plugin classes that it inherits from; read once for each class."""
    sources = [_source(c) for c in cls.__mro__ if issubclass(c, Plugin) and c.__module__.split(".")[0] not in PACKAGES]
    return hashlib.sha256(b"".join(dict.fromkeys(sources))).hexdigest() if sources else ""


def _source(cls: type[Plugin]) -> bytes:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file and Path(file).is_file():
        return Path(file).read_bytes()
    try:
        return inspect.getsource(cls).encode()  # of a notebook's cell
    except (OSError, TypeError):
        raise IqarenaError(
            f"{cls.name!r}: expected a class whose source can be read, as results are kept under its hash;"
            " write it into a file or a notebook"
        ) from None
