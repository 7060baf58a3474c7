"""``train``: make a scorer's weights from pictures with opinion scores."""

from __future__ import annotations

from pathlib import Path

import click

from iqarena.errors import IqarenaError


@click.command()
@click.argument("scorer")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv (image, mos, split).")
@click.option("--out", type=click.Path(path_type=Path), help="Where weights and card go [results/training/SCORER].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's number.")
@click.option("--limit", type=click.IntRange(8), help="Only the first N pictures of each split, for trying things.")
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads [torch's default].")
def train(
    scorer: str, data: Path, out: Path | None, seed: int, epochs: int | None, limit: int | None, device: str, threads: int | None
) -> None:  # fmt: skip
    """Train SCORER (pocket/cnn, pocket/vit, …). Killed and started again it goes on after the last whole epoch."""
    import torch

    from iqarena.registry import training_of

    name = scorer.removeprefix("pocket/")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if threads:
        torch.set_num_threads(threads)
    if not data.is_dir():
        raise IqarenaError(f"--data: expected a folder with images/ and mos.csv, found no folder {data}")
    facts = training_of(name)(
        name, data, out or Path("results") / "training" / name, seed=seed, epochs=epochs, limit=limit, device=device,
        say=click.echo,
    )  # fmt: skip
    click.echo(f"{name}: validation SROCC {facts['validation_srocc']}, PLCC {facts['validation_plcc']}, sha256 {facts['sha256'][:12]}…")
