"""``list``, ``describe``, ``cite`` and ``doctor``: what there is, and whether it works."""

from __future__ import annotations

import click

from iqarena.errors import IqarenaError, nearest

_KINDS = ("attacks", "filters", "models", "defenses", "imagesets", "suites")


@click.command("list")
@click.argument("kind", required=False)
def list_(kind: str | None) -> None:
    """List attacks, filters, models, defenses, imagesets or suites; without KIND, all of them.

    `list models` says of each scorer what is known: direction, range, training set, crops, input, licence, files.
    """
    from tabulate import tabulate

    from iqarena.tools.describe import model_table, summaries

    if kind is not None and kind not in _KINDS:
        raise IqarenaError(f"unknown kind {kind!r}{nearest(kind, _KINDS)}")
    if kind == "models":
        click.echo(tabulate(model_table(), headers="keys", tablefmt="simple", disable_numparse=True))
        return
    for one in [kind] if kind else _KINDS:
        click.echo(tabulate(summaries(one), headers=[one, "", "from"], tablefmt="simple") + "\n")


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
def doctor() -> int:
    """Check this installation: packages, device, weights against their hashes, pictures, a gradient."""
    from iqarena.tools.doctor import examine

    healthy = True
    for ok, line in examine():
        click.echo(f"{'ok  ' if ok else 'FAIL'}  {line}")
        healthy &= ok
    return 0 if healthy else 3
