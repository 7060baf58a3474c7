"""``sweep``: a defense that is trained, over its parameters, and the theorem behind it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from iqarena.cli.options import Folder
from iqarena.client import run as client
from iqarena.suite.file import DEFAULT


@click.command()
@click.argument("scorers", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv.")
@click.option("--defense", "defenses", multiple=True, required=True, help="What to train with (given several times).")
@click.option("--suite", default=DEFAULT, show_default=True, help="Where attacks, images and shipped scorers are from.")
@click.option("--images", metavar="PLACE|SET", help="Other images than those of the suite.")
@click.option("--attack", "attacks", multiple=True, help="Other attacks than those of the suite.")
@click.option("--out", type=Folder(), default=Path("results/runs/sweep"), show_default=True)
@click.option("--limit", type=click.IntRange(16), default=160, show_default=True, help="Images of each split.")
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--crop", type=click.IntRange(16), default=256, show_default=True, help="Side of the random crops.")
@click.option("--attacked", type=click.IntRange(1), default=8, show_default=True, help="Images that are attacked.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
def sweep(
    scorers: tuple[str, ...], data: Path, defenses: tuple[str, ...], suite: str, images: str | None,
    attacks: tuple[str, ...], out: Path, limit: int, epochs: int, crop: int, attacked: int, seed: int, device: str,
) -> None:  # fmt: skip
    """Train SCORERS on with a defense and several of its parameters, shortly, and measure: gradient norm, clean SROCC,
    change under the suite's gradient attacks.

    Beside it stands the check of the theorem, change against eps · gradient norm, on the suite's targets as they are
    shipped, without and with the defense. What is measured is kept; tables and figures are written at the end.
    """
    from iqarena.engine.device import checked_device
    from iqarena.tools.sweep import sweep as measured

    plan = client.resolved(suite, {"attacks": list(attacks)} if attacks else None, images=images)
    text = measured(
        scorers, defenses, data, out, plan, limit=limit, epochs=epochs, crop=crop, count=attacked, seed=seed,
        device=checked_device(device), command=shlex.join(["iqarena", *sys.argv[1:]]), log=click.echo,
    )  # fmt: skip
    click.echo(text)
