"""``diff``: which numbers of two runs differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqarena.cli.options import Place, answer, json_option

if TYPE_CHECKING:
    from iqarena.tools.diff import RunDifference


@click.command()
@click.argument("first", type=Place())
@click.argument("second", type=Place())
@json_option
def diff(first: Path, second: Path) -> int:
    """Which numbers differ between the runs in folders FIRST and SECOND: by column, with the largest difference.

    Rows are compared by image, repeat, attack, source and target; times are left out. Exit code 0 when all are equal,
    3 when not. Needs no torch.
    """
    from iqarena.tools.diff import diff as compared

    difference = compared(first, second)
    answer(lambda: _text(difference), lambda: {"equal": difference.equal, **dataclasses.asdict(difference)})
    return 0 if difference.equal else 3


def _text(difference: RunDifference) -> str:
    from tabulate import tabulate

    lines = [f"setting differs: {setting}" for setting in difference.settings]
    for count, which in zip(difference.only, ("first", "second"), strict=True):
        lines += [f"{count} rows only in the {which}"] * (count > 0)
    if difference.columns:
        table = [(one.column, one.rows, one.largest, one.where) for one in difference.columns]
        headers = ["column", "rows that differ", "largest difference", "where"]
        lines.append(tabulate(table, headers=headers, tablefmt="simple", floatfmt=".3g", missingval=""))
    same = "equal" if not difference.columns else f"{len(difference.columns)} columns differ"
    return "\n".join([*lines, f"{difference.compared} rows in both: {same}"])
