"""A defense with a training, over its parameters, and the theorem behind it, measured on a suite's images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from iqarena.api import Defense, Model
from iqarena.api.spec import Number, parse
from iqarena.errors import IqarenaError, SpecError, WeightsError
from iqarena.files.atomic import make_folder, write_atomically
from iqarena.registry.tables import build_defense, build_model, training_of
from iqarena.report.studies.flatness import PARAMETERS, write
from iqarena.runner.driver import shard_items
from iqarena.runner.manifest import provenance
from iqarena.store.sweep import FILE, SweepManifest
from iqarena.suite.plan import Plan
from iqarena.tools.flatness import attacked, theorem

EPS = ("1/25500", "1/2550", "1/255")


def sweep(
    scorers: Sequence[str],
    defenses: Sequence[str],
    data: Path,
    out: Path,
    plan: Plan,
    *,
    limit: int,
    epochs: int,
    crop: int,
    count: int,
    seed: int,
    device: str,
    command: str,
    log: Callable[[str], object],
) -> str:
    """Train every scorer on with every defense and measure; the theorem on the targets of ``plan`` as shipped.

    ``defenses`` are one defense with several parameters. ``data`` holds images/ and mos.csv, of which ``limit`` images
    of each split are used, ``epochs`` times, in random crops ``crop`` pixels a side; attacked are the first ``count``
    images of the plan, with those of its attacks that go by gradients alone. What is measured is kept in ``out``;
    tables and figures are written there at the end. Returns the report's text, and raises :class:`IqarenaError`, before
    anything is trained, for what cannot be swept.
    """
    if not data.is_dir():
        raise IqarenaError(f"data: expected a folder with images/ and mos.csv, found no folder {data}")
    if (out / FILE).exists():
        SweepManifest.read(out)
    swept = _one_defense([build_defense(spec) for spec in defenses])
    attacks = [attack for attack in plan.attacks if attack.access == "gradient"]
    if not attacks:
        raise SpecError(f"suite {plan.suite.name}: expected an attack that goes by gradients alone, found none")
    options = {"seed": seed, "epochs": epochs, "limit": limit, "crop": crop, "device": device}
    images = [(item.id, plan.images.read(item)) for item in shard_items(plan)]
    shipped = _shipped(plan.targets, swept[0].name)
    rows: list[dict[str, Any]] = []
    for scorer in map(build_model, scorers):
        for i, defense in enumerate(swept):
            folder = out / "training" / f"{scorer.name}-{i}"
            identity = [repr(defense), repr(scorer), scorer.weights_sha256, options, count]
            identity += [plan.images.label, [attack.label for attack in attacks]]
            measure = partial(attacked, images=images[:count], attacks=attacks, device=device)
            trained = partial(_trained, defense, scorer, data, folder, options, measure, log, first=i == 0)
            measured = cached_measurement(folder / "measured.json", identity, trained)
            facts = measured["facts"]
            if i == 0:
                rows.append({"scorer": scorer.label, "defense": "none", **_clean(facts["before"]), **measured["own"]})
            rows.append({"scorer": scorer.label, "defense": defense.label, **_numbers(defense)})
            rows[-1] |= _clean(facts["after"]) | measured["hardened"] | {"training_seconds": facts["training_seconds"]}
    points: list[dict[str, Any]] = []
    for model in (model for target, hardened in shipped for model in (target, *hardened)):
        identity = [repr(model), model.weights_sha256, EPS, plan.images.label, len(images)]
        path = out / "theorem" / f"{model.label.replace('|', '-')}.json"
        points += cached_measurement(path, identity, partial(theorem, model, images, EPS, device))
    pd.DataFrame(rows).to_csv(out / "sweep.csv", index=False, float_format="%.6g")
    pd.DataFrame(points).to_csv(out / "theorem.csv", index=False, float_format="%.6g")
    SweepManifest(
        command=command,
        data=facts["data"],
        **options,
        images=count,
        attacks=tuple(attack.label for attack in attacks),
        eps=EPS,
        models={target.label: model.weights_sha256 for target, hardened in shipped for model in hardened},
        image_set=plan.images.label,
        **provenance(),
    ).write(out)
    return write(out)


def _one_defense(defenses: Sequence[Defense]) -> Sequence[Defense]:
    """``defenses``, checked: one with a training and the parameters that the figures are drawn over."""
    names = sorted({defense.name for defense in defenses})
    if len(names) > 1:
        raise SpecError(f"expected one defense with several parameters, found {' and '.join(names)}; sweep each alone")
    for defense in defenses:
        training_of(defense.name)
        if missing := [name for name in PARAMETERS if name not in _numbers(defense)]:
            numbers = " and ".join(PARAMETERS)
            raise SpecError(f"{defense!r}: expected the numbers {numbers} to sweep over, found no {missing[0]}")
    return defenses


def _shipped(targets: Sequence[Model], defense: str) -> list[tuple[Model, list[Model]]]:
    """Every target, with the one that the ``defense`` of this name has hardened where its weights are at hand."""
    pairs: list[tuple[Model, list[Model]]] = []
    for target in targets:
        hardened = build_model(f"{defense}|{target.label}")
        try:
            pairs.append((target, [hardened] if hardened.weights_sha256 else []))
        except WeightsError:
            pairs.append((target, []))
    return pairs


def _numbers(defense: Defense) -> dict[str, float]:
    return {key: value.value for key, value in parse(repr(defense)).single.kwargs if isinstance(value, Number)}


def cached_measurement(path: Path, identity: list[Any], make: Callable[[], Any]) -> Any:
    """What ``make`` gives, or gave earlier for the same ``identity``."""
    identity = json.loads(json.dumps(identity))
    if path.exists() and (earlier := json.loads(path.read_text(encoding="utf-8")))["asked"] == identity:
        return earlier["found"]
    result = make()
    make_folder(path.parent)
    write_atomically(path, json.dumps({"asked": identity, "found": result}).encode())
    return result


def _trained(
    defense: Defense,
    scorer: Model,
    data: Path,
    folder: Path,
    options: dict[str, Any],
    measure: Callable[[Model], dict[str, float]],
    log: Callable[[str], object],
    first: bool,
) -> dict[str, Any]:
    """Facts of the training, and the attacks on the hardened scorer; with the ``first`` also on the scorer before."""
    log(f"{defense.label}|{scorer.label}")
    recipe = training_of(defense.name)(defense.defend(scorer), crop=options["crop"])
    shared = {key: value for key, value in options.items() if key != "crop"}
    facts = recipe.train(data, folder, **shared, command=f"iqarena sweep '{scorer.label}' --data {data.name}")
    file = str((folder / facts["file"]).resolve())
    hardened = dataclasses.replace(defense, weights=file).defend(scorer)  # pyright: ignore[reportCallIssue]
    measured = {"facts": facts, "hardened": measure(hardened)}
    return measured | ({"own": measure(scorer)} if first else {})


def _clean(measured: dict[str, float]) -> dict[str, float]:
    return {key: measured[key] for key in ("srocc", "plcc")}
