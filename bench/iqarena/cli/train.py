"""``train``: make a scorer's weights from pictures with opinion scores."""

from __future__ import annotations

from pathlib import Path

import click

from iqarena.cli.run import checked_device
from iqarena.errors import IqarenaError


@click.command()
@click.argument("scorer")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv.")
@click.option("--out", type=click.Path(path_type=Path), help="Where weights and card go [results/training/SCORER].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's number.")
@click.option("--limit", type=click.IntRange(8), help="Only the first N pictures of each split, for trying things.")
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads [torch's default].")
def train(
    scorer: str, data: Path, out: Path | None, seed: int, epochs: int | None, limit: int | None,
    device: str, threads: int | None,
) -> None:  # fmt: skip
    """Train SCORER (pocket/cnn, pocket/vit, …) on pictures with opinion scores.

    mos.csv has the columns image, mos and split (train or val). Killed and started again, training goes on after the
    last whole epoch.
    """
    import torch

    from iqarena.registry import training_of

    name = scorer.removeprefix("pocket/")
    made = training_of(name)
    if not data.is_dir():
        raise IqarenaError(f"--data: expected a folder with images/ and mos.csv, found no folder {data}")
    if threads:
        torch.set_num_threads(threads)
    facts = made(
        name, data, out or Path("results") / "training" / name, seed=seed, epochs=epochs, limit=limit,
        device=checked_device(device), say=click.echo,
    )  # fmt: skip
    measured = ", ".join(f"{what.upper()} {facts[f'validation_{what}']}" for what in ("srocc", "plcc"))
    click.echo(f"{name}: validation {measured}, sha256 {facts['sha256'][:12]}…")
