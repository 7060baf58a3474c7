"""``train``: make a scorer's weights from pictures with opinion scores."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from iqarena.cli.run import checked_device
from iqarena.errors import IqarenaError, nearest

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
@click.option("--set", "settings", multiple=True, metavar="KEY=NUMBER", help="A number of the recipe (rate=1e-3).")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [torch's default].")
def train(
    scorer: str, defense: str | None, data: Path, out: Path | None, seed: int, epochs: int | None, limit: int | None,
    device: str, from_scratch: bool, settings: tuple[str, ...], threads: int | None,
) -> None:  # fmt: skip
    """Train SCORER (pocket/cnn, linearityiqa, 'hyperiqa(backbone=resnet50)' …) on pictures with opinion scores.

    With --defense a finished scorer ('cnn', 'hyperiqa(weights=mine.pth)' …) is trained on and what changes is stored.
    mos.csv has the columns image, mos and split (train or val). Killed and started again, training goes on after the
    last whole epoch.
    """
    import torch

    from iqarena.api.spec import parse
    from iqarena.registry.tables import build_model, training_of

    if threads:
        torch.set_num_threads(threads)
    if not data.is_dir():
        raise IqarenaError(f"--data: expected a folder with images/ and mos.csv, found no folder {data}")
    common = {"seed": seed, "epochs": epochs, "limit": limit, "device": checked_device(device), "say": click.echo}
    spec = parse(scorer.removeprefix("pocket/"))
    if defense is not None:
        if from_scratch:
            raise IqarenaError("--defense: expected a finished scorer to train on; leave out --from-scratch")
        _harden(defense, build_model(spec), data, out, settings, **common)
        return
    made = training_of(spec.single.name)
    model = build_model(spec)
    chosen = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    chosen = {key: value for key, value in chosen.items() if value != getattr(type(model), key)}
    chosen |= {"from_scratch": True} if from_scratch else {}
    chosen |= dict(_number(setting, made) for setting in settings)
    if unknown := chosen.keys() - inspect.signature(made).parameters.keys():
        raise IqarenaError(f"training of {model.name} expects no {', '.join(sorted(unknown))}; leave it out")
    facts = made(model.name, data, out or Path("results") / "training" / model.name, **common, **chosen)
    measured = ", ".join(f"{what.upper()} {facts[f'validation_{what}']}" for what in ("srocc", "plcc"))
    click.echo(f"{model.name}: validation {measured}, sha256 {facts['sha256'][:12]}…")


def _number(setting: str, made: Callable[..., Any]) -> tuple[str, float]:
    """``KEY=NUMBER`` for a parameter of the training function that is one and has no flag of its own."""
    key, _, value = setting.partition("=")
    hints = get_type_hints(made)
    kinds = {p: hints[p] for p in inspect.signature(made).parameters if hints[p] in (int, float) and p != "seed"}
    if key not in kinds:
        raise IqarenaError(f"--set: this training has no number {key!r}{nearest(key, kinds)}")
    try:
        number = kinds[key](value)
    except ValueError:
        number = -1
    if number < 0 or (number == 0 and key in ("rate", "crop")):
        kind = "a positive whole number" if kinds[key] is int else "a positive number"
        raise IqarenaError(f"--set {key}: expected {kind}, found {value!r}")
    return key, number


def _harden(spec: str, model: Model, data: Path, out: Path | None, settings: tuple[str, ...], **options: Any) -> None:
    from iqarena.registry.tables import build, training_of

    defense = build("defense", spec)
    made = training_of(defense.name)
    options |= dict(_number(setting, made) for setting in settings)
    facts = made(defense, model, data, out or Path("results") / "training" / f"{defense.name}-{model.name}", **options)
    before, after = facts["before"], facts["after"]
    click.echo(
        f"{facts['file']}: mean gradient norm {before['gradient_l1']:.1f} → {after['gradient_l1']:.1f},"
        f" validation SROCC {before['srocc']:.4f} → {after['srocc']:.4f}, sha256 {facts['sha256'][:12]}…"
    )
