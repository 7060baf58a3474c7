"""``merge``: several run folders as one."""

from __future__ import annotations

from pathlib import Path

import click

from iqarena.cli.options import Place


@click.command()
@click.argument("folders", nargs=-1, required=True, type=Place())
@click.option("--out", required=True, type=Place(), help="Folder of the merged run.")
def merge(folders: tuple[Path, ...], out: Path) -> int:
    """Join run FOLDERS of one setting (seed, direction, precision, kind of device, image set) and write their boards.

    A row that several have must have the same key and numbers in all of them.
    """
    from iqarena.client.stored import load
    from iqarena.runner.merge import merge as join

    manifest = join(folders, out)
    run = load(out)
    click.echo(run.report())
    click.echo(f"{len(run.rows)} of {manifest.planned} rows are in {out}")
    return 0 if run.complete else 3
