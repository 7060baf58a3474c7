"""``sweep``: gradient-norm regularisation over its two parameters, and its theorem on the pocket zoo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from iqarena.cli.options import Folder

GRID = (
    *(f"gradient_norm(weight={weight})" for weight in ("1e-5", "1e-4", "1e-3")),
    *(f"gradient_norm(h={h})" for h in ("1e-3", "1e-1")),
)


@click.command()
@click.argument("scorers", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv.")
@click.option("--defense", "defenses", multiple=True, default=GRID, help="What to train with [weights and steps].")
@click.option("--out", type=Folder(), default=Path("results/runs/gradient_norm_sweep"))
@click.option("--limit", type=click.IntRange(16), default=160, show_default=True, help="Images of each split.")
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--crop", type=click.IntRange(16), default=256, show_default=True, help="Side of the random crops.")
@click.option(
    "--pictures", "images", type=click.IntRange(1), default=8, show_default=True, help="Pocket images, attacked."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
def sweep(
    scorers: tuple[str, ...], data: Path, defenses: tuple[str, ...], out: Path, limit: int, epochs: int, crop: int,
    images: int, seed: int, device: str,
) -> None:  # fmt: skip
    """Train SCORERS on with every DEFENSE, shortly, and measure: gradient norm, clean SROCC, change under attacks.

    Beside it stands the check of the theorem, change against eps · gradient norm, on all pocket scorers as they are
    shipped, without and with gradient_norm. What is measured is kept; tables and figures are written at the end.
    """
    from iqarena.engine.device import checked_device
    from iqarena.tools.sweep import sweep as measured

    text = measured(
        scorers, defenses, data, out, limit=limit, epochs=epochs, crop=crop, images=images, seed=seed,
        device=checked_device(device), command=shlex.join(["iqarena", *sys.argv[1:]]), log=click.echo,
    )  # fmt: skip
    click.echo(text)
