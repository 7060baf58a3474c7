"""The page of a run, ``index.html``: one file, links only to the plots and tables beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from iqarena.report.text.tables import LEGEND, Table


@dataclass(frozen=True)
class Picture:
    """A plot on the page; ``path`` is relative to it, without suffix; ``vector`` when an ``.svg`` is there too."""

    path: str
    alt: str
    vector: bool = True


def page(
    suite: str,
    boards: Sequence[tuple[Table, Picture]],
    maps: Sequence[Picture],
    gallery: Picture | None,
    remarks: Sequence[Table],
    facts: Mapping[str, str],
    files: Sequence[str],
    curves: Picture | None = None,
) -> str:
    """HTML text; every string is escaped."""
    folder = FileSystemLoader(Path(__file__).parent)
    jinja = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return jinja.get_template("page.html.j2").render(
        suite=suite,
        boards=boards,
        maps=maps,
        curves=curves,
        gallery=gallery,
        remarks=remarks,
        facts=facts,
        files=files,
        legend=LEGEND,
    )
