"""``diff``: which numbers of two runs differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqarena.cli.options import answer, json_option

if TYPE_CHECKING:
    from iqarena.tools.diff import RunDifference


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@json_option
def diff(first: Path, second: Path) -> int:
    """Which numbers differ between the runs in folders FIRST and SECOND: by column, with the largest difference.

    Rows are compared by image, repeat, attack, source and target; times are left out. Exit code 0 when all are equal,
    3 when not. Needs no torch.
    """
    from iqarena.tools.diff import diff as compared

    found = compared(first, second)
    answer(lambda: _text(found), lambda: {"equal": found.equal, **dataclasses.asdict(found)})
    return 0 if found.equal else 3


def _text(found: RunDifference) -> str:
    from tabulate import tabulate

    lines = [f"setting differs: {setting}" for setting in found.settings]
    for count, which in zip(found.only, ("first", "second"), strict=True):
        lines += [f"{count} rows only in the {which}"] * (count > 0)
    if found.columns:
        table = [(one.column, one.rows, one.largest, one.where) for one in found.columns]
        headers = ["column", "rows that differ", "largest difference", "where"]
        lines.append(tabulate(table, headers=headers, tablefmt="simple", floatfmt=".3g", missingval=""))
    same = "equal" if not found.columns else f"{len(found.columns)} columns differ"
    return "\n".join([*lines, f"{found.compared} rows in both: {same}"])
