"""The boards as Markdown (``leaderboard.md``) and for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tabulate import tabulate

from iqarena.report.text.table import Table
from iqarena.report.text.tables import LEGEND

_MARKS = re.compile(r"[\\`*|<>&]|(?<!\w)_|_(?!\w)|(?<=\])[(\[]")  # underscores inside a word mean nothing


def markdown(
    suite: str, notice: str, boards: Iterable[Table], remarks: Iterable[Table], facts: Mapping[str, str]
) -> str:
    """``leaderboard.md``: what is missing, the boards, how to read them, remarks (flags, failures, …), provenance."""
    parts = [f"# Leaderboard: {_escape(suite)}"]
    parts += [f"**{_escape(notice)}**"] if notice else []
    parts += [_section(table) for table in boards]
    parts += ["## How to read this", _bullets(LEGEND)]
    parts += [_section(table) for table in remarks]
    parts += ["## Provenance", _bullets(facts)]
    return "\n\n".join(parts) + "\n"


def terminal(boards: Iterable[Table], lines: Iterable[str] = ()) -> str:
    """Boards in plain text, with single ``lines`` after them."""
    parts = [f"{t.title}: {' '.join(t.note.split())}\n\n{_grid(t, t.rows, 'simple')}" for t in boards]
    return "\n\n".join([*parts, "\n".join(lines)]) + "\n"


def _section(table: Table) -> str:
    rows = [[_escape(cell) for cell in row] for row in table.rows]
    grid = _grid(table, rows, "github")
    return "\n\n".join(filter(None, [f"## {table.title}", _escape(table.note), _bullets(table.summary), grid]))


def _grid(table: Table, rows: Sequence[Sequence[str]], style: str) -> str:
    aligned = ["left" if left else "right" for left in table.left]
    return tabulate(rows, headers=table.header, tablefmt=style, disable_numparse=True, colalign=aligned)


def _bullets(facts: Mapping[str, str]) -> str:
    return "\n".join(f"* **{name}**: {_escape(text)}" for name, text in facts.items())


def _escape(text: str) -> str:
    """Literal text inside Markdown, also in a table cell; specs hold ``|`` and ``_``, messages anything."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))
