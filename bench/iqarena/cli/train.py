"""``train``: make a scorer's weights from images with opinion scores."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import click

from iqarena.cli.run import checked_device
from iqarena.errors import IqarenaError, nearest


@click.command()
@click.argument("scorer")
@click.option("--defense", help="Train the finished scorer on with this defense; the same as 'DEFENSE|SCORER'.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv.")
@click.option("--out", type=click.Path(path_type=Path), help="Where weights and card go [results/training/SCORER].")
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

    from iqarena.api.spec import parse
    from iqarena.registry.tables import build_model, training_of

    if threads:
        torch.set_num_threads(threads)
    if not data.is_dir():
        raise IqarenaError(f"--data: expected a folder with images/ and mos.csv, found no folder {data}")
    spec = f"{defense}|{scorer}" if defense else scorer
    training = training_of(parse(spec).calls[0].name)
    numbers = dict(_number(setting, training) for setting in settings)
    if from_scratch and "from_scratch" not in inspect.signature(training).parameters:
        raise IqarenaError(f"--from-scratch: training of '{spec}' has no such choice; leave it out")
    recipe = training(build_model(spec), **numbers, **({"from_scratch": True} if from_scratch else {}))
    options = {"epochs": epochs, "limit": limit, "leave-out": leave_out}
    command = ["iqarena", "train", spec, "--data", data.name, "--seed", str(seed), *["--from-scratch"] * from_scratch]
    command += [part for key, value in options.items() if value is not None for part in (f"--{key}", str(value))]
    command += [part for setting in settings for part in ("--set", setting)]
    facts = recipe.train(
        data, out or Path("results") / "training" / recipe.name, seed=seed, epochs=epochs, limit=limit,
        leave_out=leave_out, device=checked_device(device), command=shlex.join(command), log=click.echo,
    )  # fmt: skip
    measured = [f"validation {what.upper()} {facts[f'validation_{what}']:.4f}" for what in ("srocc", "plcc")]
    for name, before in facts.get("before", {}).items():
        measured.append(f"{name.replace('_', ' ')} {before:.5g} → {facts['after'][name]:.5g}")
    click.echo(f"{facts['file']}: {', '.join(measured)}, sha256 {facts['sha256'][:12]}…")
    if use := facts.get("use"):
        click.echo(f"use it: iqarena --weights-dir {out or 'results/training/' + recipe.name} run SUITE, as {use}")


def _number(setting: str, training: Callable[..., Any]) -> tuple[str, float]:
    """``KEY=NUMBER`` for a keyword of the training that is a number."""
    key, _, value = setting.partition("=")
    hints = get_type_hints(training)
    kinds = {name: hints[name] for name in inspect.signature(training).parameters if hints[name] in (int, float)}
    if key not in kinds:
        raise IqarenaError(f"--set: this training has no number {key!r}{nearest(key, kinds)}")
    try:
        number = kinds[key](value)
    except ValueError:
        number = -1
    if number < 0 or (number == 0 and key in ("lr", "crop", "side")):
        kind = "a positive whole number" if kinds[key] is int else "a positive number"
        raise IqarenaError(f"--set {key}: expected {kind}, found {value!r}")
    return key, number
