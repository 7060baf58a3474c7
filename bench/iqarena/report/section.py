"""The parts of a report: a table with its figure, and figures that stand without a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from iqarena.report.text.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn when it is saved; ``name`` is its file without suffix, ``alt`` says what it shows.

    ``vector`` is off for photographic content, which is saved as ``.jpg`` instead of ``.png`` and ``.svg``.
    """

    name: str
    alt: str
    draw: Callable[[], Figure]
    vector: bool = True


@dataclass(frozen=True)
class Section:
    """A table with its figure and the CSV files behind both; ``text`` names a Markdown file of its own."""

    table: Table
    drawing: Drawing
    files: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Panel:
    """Figures of one kind on the page; ``name`` is their anchor and style."""

    name: str
    title: str
    note: str
    drawings: list[Drawing]
