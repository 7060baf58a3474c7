"""What all plugins are: named, versioned, immutable sets of parameters."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from iqarena.api.bounds import check_bounds
from iqarena.api.spec import format_number


@dataclass(frozen=True, kw_only=True, repr=False)
class Plugin(ABC):  # noqa: B024 (its kinds have abstract methods)
    """A named, versioned, immutable set of parameters; ``repr`` is its canonical spec string.

    ``version`` must be raised when the same spec starts to give other numbers. Bounds of parameters are data (see
    :mod:`iqarena.api.bounds`), checked here.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    bibtex: ClassVar[str] = ""
    reconstructed: ClassVar[str] = ""  # what is our reconstruction rather than the paper's, in one sentence

    def __post_init__(self) -> None:
        check_bounds(self)

    def __repr__(self) -> str:
        return self._spec(dataclasses.fields(self))

    @property
    def label(self) -> str:
        """The spec with default values left out: what columns, plots and file names show."""
        return self._spec([f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default])

    def _spec(self, fields: Sequence[dataclasses.Field[Any]]) -> str:
        if not fields:
            return self.name
        return f"{self.name}({', '.join(f'{f.name}={_text(getattr(self, f.name))}' for f in fields)})"


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return format_number(value)
    return repr(value) if isinstance(value, Plugin) else str(value)
