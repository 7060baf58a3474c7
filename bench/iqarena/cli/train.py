"""``train``: make a scorer's weights from pictures with opinion scores."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import click

from iqarena.cli.run import checked_device
from iqarena.errors import IqarenaError, nearest


@click.command()
@click.argument("scorer")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv.")
@click.option("--out", type=click.Path(path_type=Path), help="Where weights and card go [results/training/SCORER].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's number.")
@click.option("--limit", type=click.IntRange(8), help="Only the first N pictures of each split, for trying things.")
@click.option("--device", default="auto", show_default=True)
@click.option("--from-scratch", is_flag=True, help="Start the trunk from random instead of ImageNet weights.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=NUMBER", help="A number of the recipe (monotonicity=0.1)."
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads [torch's default].")
def train(
    scorer: str, data: Path, out: Path | None, seed: int, epochs: int | None, limit: int | None,
    device: str, from_scratch: bool, settings: tuple[str, ...], threads: int | None,
) -> None:  # fmt: skip
    """Train SCORER (pocket/cnn, linearityiqa, 'hyperiqa(backbone=resnet50)' …) on pictures with opinion scores.

    mos.csv has the columns image, mos and split (train or val). Killed and started again, training goes on after the
    last whole epoch.
    """
    import torch

    from iqarena.registry import build_model, training_of
    from iqarena.spec import parse

    spec = parse(scorer.removeprefix("pocket/"))
    made = training_of(spec.single.name)
    model = build_model(spec)
    chosen = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    chosen = {key: value for key, value in chosen.items() if value != getattr(type(model), key)}
    chosen |= {"from_scratch": True} if from_scratch else {}
    chosen |= dict(_number(setting, made) for setting in settings)
    if unknown := chosen.keys() - inspect.signature(made).parameters.keys():
        raise IqarenaError(f"training of {model.name} expects no {', '.join(sorted(unknown))}; leave it out")
    if not data.is_dir():
        raise IqarenaError(f"--data: expected a folder with images/ and mos.csv, found no folder {data}")
    if threads:
        torch.set_num_threads(threads)
    facts = made(
        model.name, data, out or Path("results") / "training" / model.name, seed=seed, epochs=epochs, limit=limit,
        device=checked_device(device), say=click.echo, **chosen,
    )  # fmt: skip
    measured = ", ".join(f"{what.upper()} {facts[f'validation_{what}']}" for what in ("srocc", "plcc"))
    click.echo(f"{model.name}: validation {measured}, sha256 {facts['sha256'][:12]}…")


def _number(setting: str, made: Callable[..., Any]) -> tuple[str, float]:
    """``KEY=NUMBER`` for a parameter of the training function that is one."""
    key, _, value = setting.partition("=")
    hints = get_type_hints(made)
    numbers = [p for p in inspect.signature(made).parameters if hints[p] is float]
    if key not in numbers:
        raise IqarenaError(f"--set: this training has no number {key!r}{nearest(key, numbers)}")
    try:
        return key, float(value)
    except ValueError:
        raise IqarenaError(f"--set {key}: expected a number, found {value!r}; for example --set {key}=0.1") from None
