"""A table as text: what the terminal, the Markdown file and the page share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Cells are final text; the first ``names`` columns (and the last, if ``last_is_name``) are names, the others
    numbers. ``summary`` stands above the table as name → text."""

    title: str
    header: list[str]
    rows: list[list[str]]
    names: int = 1
    note: str = ""
    summary: Mapping[str, str] = field(default_factory=dict)
    last_is_name: bool = False
    details: bool = False  # for files, not for the terminal

    @property
    def left(self) -> list[bool]:
        """Which columns are left-aligned."""
        columns = len(self.header)
        return [k < self.names or (self.last_is_name and k == columns - 1) for k in range(columns)]
