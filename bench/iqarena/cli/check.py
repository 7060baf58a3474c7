"""``check`` and ``new``: for authors of plugins."""

from __future__ import annotations

from pathlib import Path

import click

from iqarena.cli.options import answer, json_option, session
from iqarena.suite.file import DEFAULT, load_suite


@click.command()
@click.argument("spec", metavar="PLUGIN")
@click.option("--model", help="The scorer that a defense is checked in front of [first target of the default suite].")
@json_option
def check(spec: str, model: str | None) -> int:
    """Does PLUGIN do what it declares? PLUGIN is a name or spec ('sega(samples=5)'), or a Python file with plugins.

    One line a check: budget, seeds, batches, cost, gradients and more, as the plugin's declared facts choose them. Exit
    code 3 when one fails.
    """
    from iqarena.tools.check import examine, plugins

    results = []
    for kind, plugin in plugins(spec):
        for passed, line in examine(kind, plugin, model or load_suite(DEFAULT).targets[0]):
            results.append({"plugin": plugin.label, "kind": kind, "ok": passed, "check": line})
            if not session().json:
                click.echo(f"{'ok  ' if passed else 'FAIL'}  {plugin.label}: {line}")
    failed = sum(not result["ok"] for result in results)
    total = f"{failed} of {len(results)} checks failed" if failed else f"{len(results)} checks passed"
    answer(lambda: total, lambda: results)
    return 3 if failed else 0


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="Folder of the two files [this one].")
def new(kind: str, name: str, out: Path) -> None:
    """Write a short working plugin, NAME.py, and its test, test_NAME.py, to start from. KIND is attack.

    Nothing is overwritten.
    """
    from iqarena.tools.new import write

    plugin, test = write(kind, name, out)
    attacks = f"""'attacks=["noise", "{name}"]'"""
    click.echo(f"{plugin} and {test} are written; next:")
    click.echo(f"  iqarena check {plugin}")
    click.echo(f"  iqarena --plugin {plugin} run {DEFAULT} --set {attacks} --out results/runs/{name}")
