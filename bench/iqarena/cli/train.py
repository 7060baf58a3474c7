"""``train``: make a scorer's weights from images with opinion scores."""

from __future__ import annotations

from pathlib import Path

import click

from iqarena.cli.options import Folder


@click.command()
@click.argument("scorer")
@click.option("--defense", help="Train the finished scorer on with this defense; the same as 'DEFENSE|SCORER'.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv.")
@click.option("--out", type=Folder(), help="Where weights and card go [results/training/SCORER].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's number.")
@click.option("--limit", type=click.IntRange(8), help="Only the first N images of each split, for trying things.")
@click.option("--leave-out", metavar="TEXT", help="Keep images apart whose name holds TEXT, and report on them.")
@click.option("--device", default="auto", show_default=True)
@click.option("--from-scratch", is_flag=True, help="Start the backbone from random instead of ImageNet weights.")
@click.option("--set", "settings", multiple=True, metavar="KEY=NUMBER", help="A number of the recipe (lr=1e-3).")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [torch's default].")
def train(
    scorer: str, defense: str | None, data: Path, out: Path | None, seed: int, epochs: int | None, limit: int | None,
    leave_out: str | None, device: str, from_scratch: bool, settings: tuple[str, ...], threads: int | None,
) -> None:  # fmt: skip
    """Train SCORER (cnn, linearityiqa, 'hyperiqa(backbone=resnet50)' …) on images with opinion scores.

    With a defense in front ('gradient_norm|cnn', 'adversarial|hyperiqa(weights=own.pth)' …) a finished scorer is
    trained on and what changes is stored. mos.csv has the columns image, mos and split (train or val). Killed and
    started again, training goes on after the last full epoch.
    """
    import torch

    from iqarena.engine.device import checked_device
    from iqarena.tools.train import train as trained

    if threads:
        torch.set_num_threads(threads)
    facts = trained(
        f"{defense}|{scorer}" if defense else scorer, data, out, settings=settings, from_scratch=from_scratch,
        seed=seed, epochs=epochs, limit=limit, leave_out=leave_out, device=checked_device(device), log=click.echo,
    )  # fmt: skip
    measured = [f"validation {what.upper()} {facts[f'validation_{what}']:.4f}" for what in ("srocc", "plcc")]
    for name, before in facts.get("before", {}).items():
        measured.append(f"{name.replace('_', ' ')} {before:.5g} → {facts['after'][name]:.5g}")
    click.echo(f"{facts['file']}: {', '.join(measured)}, sha256 {facts['sha256'][:12]}…")
    if use := facts.get("use"):
        click.echo(f"use it: iqarena --weights-dir {facts['folder']} run SUITE, as {use}")
