"""A scorer trained by its recipe, or trained on with a defense, from what a caller asks for in words."""

from __future__ import annotations

import inspect
import math
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from iqarena.api.spec import parse
from iqarena.errors import IqarenaError, nearest
from iqarena.registry.tables import build_model, training_of


def train(
    spec: str,
    data: Path,
    out: Path | None = None,
    *,
    settings: Sequence[str] = (),
    from_scratch: bool = False,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
    leave_out: str | None = None,
    device: str = "cpu",
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train ``spec`` (a scorer, or ``defense|scorer``) on the folder ``data``; returns the facts of its card.

    Weights and card go into ``out``, ``results/training/NAME`` when left out. ``settings`` are numbers of the recipe,
    ``key=number``. Raises :class:`IqarenaError` for what this training does not know and for data that is not there.
    """
    if not data.is_dir():
        raise IqarenaError(f"--data: expected a folder with images/ and mos.csv, found no folder {data}")
    training = training_of(parse(spec).calls[0].name)
    numbers = dict(_number(setting, training) for setting in settings)
    if from_scratch and "from_scratch" not in inspect.signature(training).parameters:
        raise IqarenaError(f"--from-scratch: training of '{spec}' has no such choice; leave it out")
    recipe = training(build_model(spec), **numbers, **({"from_scratch": True} if from_scratch else {}))
    options = {"epochs": epochs, "limit": limit, "leave-out": leave_out}
    command = [
        "iqarena",
        "train",
        spec,
        "--data",
        Path(os.path.abspath(data)).name,
        "--seed",
        str(seed),
        *["--from-scratch"] * from_scratch,
    ]
    command += [part for key, value in options.items() if value is not None for part in (f"--{key}", str(value))]
    command += [part for setting in settings for part in ("--set", setting)]
    folder = out or Path("results") / "training" / recipe.name
    facts = recipe.train(
        data, folder, seed=seed, epochs=epochs, limit=limit, leave_out=leave_out, device=device,
        command=shlex.join(command), log=log,
    )  # fmt: skip
    return {**facts, "folder": str(folder)}


def _number(setting: str, training: Callable[..., Any]) -> tuple[str, float]:
    """``KEY=NUMBER`` for a keyword of the training that is a number."""
    key, _, value = setting.partition("=")
    hints = get_type_hints(training)
    kinds = {name: hints[name] for name in inspect.signature(training).parameters if hints[name] in (int, float)}
    if not kinds:
        raise IqarenaError(f"--set: this training has no numbers to set, found {setting!r}")
    if key not in kinds:
        raise IqarenaError(f"--set: this training has no number {key!r}{nearest(key, kinds)}")
    try:
        number = kinds[key](value)
    except ValueError:
        number = -1
    if not 0 <= number < math.inf or (number == 0 and key in ("lr", "crop", "side")):
        kind = "a positive whole number" if kinds[key] is int else "a positive number"
        raise IqarenaError(f"--set {key}: expected {kind}, found {value!r}")
    return key, number
