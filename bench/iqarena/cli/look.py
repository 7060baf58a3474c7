"""``list``, ``describe``, ``cite`` and ``doctor``: what there is, and whether it works."""

from __future__ import annotations

import json

import click

from iqarena.cli.options import answer, json_option, session
from iqarena.errors import IqarenaError, nearest

_KINDS = ("attacks", "filters", "models", "defenses", "imagesets", "suites")


@click.command("list")
@click.argument("kind", required=False)
@json_option
def list_(kind: str | None) -> None:
    """List attacks, filters, models, defenses, imagesets or suites; without KIND, all of them.

    `list models` says of each scorer what is known: direction, range, training set, crops, input, licence, files.
    """
    from tabulate import tabulate

    from iqarena.tools.describe import model_table, summaries

    if kind is not None and kind not in _KINDS:
        raise IqarenaError(f"unknown kind {kind!r}{nearest(kind, _KINDS)}")
    if kind == "models":
        answer(lambda: tabulate(model_table(), headers="keys", tablefmt="simple", disable_numparse=True), model_table)
        return
    tables = {one: summaries(one) for one in ([kind] if kind else _KINDS)}
    answer(
        lambda: "\n".join(
            tabulate(t, headers=[one, "", "from"], tablefmt="simple") + "\n" for one, t in tables.items()
        ),
        lambda: {one: [dict(zip(("name", "what", "from"), row)) for row in rows] for one, rows in tables.items()},
    )


@click.command()
@click.argument("name")
def describe(name: str) -> None:
    """Everything about the plugin NAME: header, parameters with defaults, what is reconstructed, how to cite."""
    from iqarena.tools.describe import description

    click.echo(description(name))


@click.command()
@click.argument("names", nargs=-1, required=True)
def cite(names: tuple[str, ...]) -> None:
    """BibTeX of the attacks NAMES."""
    from iqarena.tools.describe import bibtex

    for name in names:
        click.echo(bibtex(name))


@click.command()
@json_option
def doctor() -> int:
    """Check this installation: packages, device, weights against their hashes, images, a gradient."""
    from iqarena.tools.doctor import examine

    checks: list[tuple[bool, str]] = []
    for ok, line in examine():
        checks.append((ok, line))
        if not session().json:  # some checks take seconds
            click.echo(f"{'ok  ' if ok else 'FAIL'}  {line}")
    if session().json:
        click.echo(json.dumps([{"ok": ok, "check": line} for ok, line in checks], indent=1, ensure_ascii=False))
    return 0 if all(ok for ok, _ in checks) else 3
