"""``export``: the adversarial images of a stored run."""

from __future__ import annotations

from pathlib import Path

import click

from iqarena.cli.options import Place


@click.command()
@click.argument("run_folder", type=Place())
@click.option("--out", required=True, type=Place(), help="Folder for the PNG files and their table.")
@click.option("--attack", "attacks", multiple=True, help="Only this attack (may be given several times).")
@click.option("--source", "sources", multiple=True, help="Only this source (may be given several times).")
@click.option("--image", "images", multiple=True, help="Only this image (may be given several times).")
def export(
    run_folder: Path, out: Path, attacks: tuple[str, ...], sources: tuple[str, ...], images: tuple[str, ...]
) -> int:
    """Write the adversarial images of RUN_FOLDER as PNG, with a table, adversarials.csv.

    Images that the run has not kept (keep = "adversarials") are crafted again and must have the stored hash.
    """
    from iqarena.runner.export import export as write
    from iqarena.store.folder import Store

    table = write(Store(run_folder), out, attacks=attacks, sources=sources, images=images)
    failed = table[table["message"] != ""]
    click.echo(f"{len(table) - len(failed)} of {len(table)} adversarial images are in {out}, with adversarials.csv")
    for _, first in failed.head(1).iterrows():
        click.echo(f"the first that is missing, {first['attack_label']} on {first['image']}: {first['message']}")
    return 3 if len(failed) else 0
