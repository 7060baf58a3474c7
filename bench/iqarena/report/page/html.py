"""The page of a run, ``index.html``: one file, links only to the plots and tables beside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from iqarena.report.contents import Contents
from iqarena.report.text.tables import LEGEND


def page(report: Contents) -> str:
    """HTML text; every string is escaped."""
    files = [*report.files, "leaderboard.md", *report.texts]
    return _template().render(report=report, files=files, legend=LEGEND)


@cache
def _template() -> Template:
    folder = FileSystemLoader(Path(__file__).parent)
    jinja = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return jinja.get_template("page.html.j2")
