"""``train``: make a scorer's weights from pictures with opinion scores."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqarena.cli.run import checked_device
from iqarena.errors import IqarenaError

if TYPE_CHECKING:
    from iqarena.api import Model


@click.command()
@click.argument("scorer")
@click.option("--defense", help="Train the finished scorer on with this defense: 'gradient_norm(weight=1e-3)' ….")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv.")
@click.option("--out", type=click.Path(path_type=Path), help="Where weights and card go [results/training/SCORER].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's number.")
@click.option("--limit", type=click.IntRange(8), help="Only the first N pictures of each split, for trying things.")
@click.option("--device", default="auto", show_default=True)
@click.option("--from-scratch", is_flag=True, help="Start the trunk from random instead of ImageNet weights.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Learning rate, with --defense.")
@click.option("--crop", type=click.IntRange(16), help="Side of the random crops in pixels, with --defense.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [torch's default].")
def train(
    scorer: str, defense: str | None, data: Path, out: Path | None, seed: int, epochs: int | None, limit: int | None,
    device: str, from_scratch: bool, rate: float | None, crop: int | None, threads: int | None,
) -> None:  # fmt: skip
    """Train SCORER (pocket/cnn, linearityiqa, 'linearityiqa(trunk=resnet50)' …) on pictures with opinion scores.

    With --defense a finished scorer ('cnn', 'hyperiqa(weights=mine.pth)' …) is trained on and what changes is stored.
    mos.csv has the columns image, mos and split (train or val). Killed and started again, training goes on after the
    last whole epoch.
    """
    import torch

    from iqarena.registry import build_model, training_of
    from iqarena.spec import parse

    if threads:
        torch.set_num_threads(threads)
    if not data.is_dir():
        raise IqarenaError(f"--data: expected a folder with images/ and mos.csv, found no folder {data}")
    numbers = {"rate": rate, "crop": crop}
    numbers = {key: value for key, value in numbers.items() if value is not None}
    common = {"seed": seed, "epochs": epochs, "limit": limit, "device": checked_device(device), "say": click.echo}
    spec = parse(scorer.removeprefix("pocket/"))
    if defense is not None:
        if from_scratch:
            raise IqarenaError("--defense: expected a finished scorer to train on; leave out --from-scratch")
        _harden(defense, build_model(spec), data, out, **common, **numbers)
        return
    if numbers:
        raise IqarenaError(f"--{next(iter(numbers))} goes with --defense; leave it out")
    made = training_of(spec.single.name)
    model = build_model(spec)
    chosen = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    chosen = {key: value for key, value in chosen.items() if value != getattr(type(model), key)}
    chosen |= {"from_scratch": True} if from_scratch else {}
    if unknown := chosen.keys() - inspect.signature(made).parameters.keys():
        raise IqarenaError(f"training of {model.name} expects no {', '.join(sorted(unknown))}; leave it out")
    facts = made(model.name, data, out or Path("results") / "training" / model.name, **common, **chosen)
    measured = ", ".join(f"{what.upper()} {facts[f'validation_{what}']}" for what in ("srocc", "plcc"))
    click.echo(f"{model.name}: validation {measured}, sha256 {facts['sha256'][:12]}…")


def _harden(spec: str, model: Model, data: Path, out: Path | None, **options: Any) -> None:
    from iqarena.registry import build, training_of

    defense = build("defense", spec)
    made = training_of(defense.name)
    facts = made(defense, model, data, out or Path("results") / "training" / f"{defense.name}-{model.name}", **options)
    before, after = facts["before"], facts["after"]
    click.echo(
        f"{facts['file']}: mean gradient norm {before['gradient_l1']:.1f} → {after['gradient_l1']:.1f},"
        f" validation SROCC {before['srocc']:.4f} → {after['srocc']:.4f}, sha256 {facts['sha256'][:12]}…"
    )
