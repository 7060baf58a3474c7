"""Gradient-norm regularisation over its two parameters, and its theorem on the pocket zoo, measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from iqarena.api import Defense, ImageItem, Model
from iqarena.api.spec import Number, parse
from iqarena.errors import IqarenaError
from iqarena.images.sets.pocket import PocketImages
from iqarena.registry.tables import build_defense, build_model, training_of
from iqarena.report.studies.flatness import write
from iqarena.runner.manifest import provenance
from iqarena.tools.flatness import attacked, theorem

ATTACKS = ("fgsm", "pgd", "sega")
POCKET = ("bilinear", "cnn", "hyper", "linearity", "vit")
EPS = ("1/25500", "1/2550", "1/255")


def sweep(
    scorers: Sequence[str],
    defenses: Sequence[str],
    data: Path,
    out: Path,
    *,
    limit: int,
    epochs: int,
    crop: int,
    images: int,
    seed: int,
    device: str,
    command: str,
    log: Callable[[str], object],
) -> str:
    """Train every scorer on with every defense and measure; the theorem on all pocket scorers as they are shipped.

    ``data`` holds images/ and mos.csv, of which ``limit`` images of each split are used, ``epochs`` times, in random
    crops ``crop`` pixels a side; attacked are the first ``images`` of the pocket set. What is measured is kept in
    ``out``; tables and figures are written there at the end. Returns the report's text.
    """
    if not data.is_dir():
        raise IqarenaError(f"data: expected a folder with images/ and mos.csv, found no folder {data}")
    options = {"seed": seed, "epochs": epochs, "limit": limit, "crop": crop, "device": device}
    items = PocketImages().items()
    rows: list[dict[str, Any]] = []
    for scorer in map(build_model, scorers):
        for i, defense in enumerate(map(build_defense, defenses)):
            folder = out / "training" / f"{scorer.name}-{i}"
            asked = [repr(defense), repr(scorer), scorer.weights_sha256, options, images]
            trained = partial(_trained, defense, scorer, data, folder, options, items[:images], log, first=i == 0)
            found = _kept(folder / "measured.json", asked, trained)
            facts = found["facts"]
            if i == 0:
                rows.append({"scorer": scorer.label, "defense": "none", **_clean(facts["before"]), **found["own"]})
            numbers = {
                key: value.value for key, value in parse(repr(defense)).single.kwargs if isinstance(value, Number)
            }
            rows.append({"scorer": scorer.label, "defense": defense.label, **numbers, **_clean(facts["after"])})
            rows[-1] |= found["hardened"] | {"training_seconds": facts["training_seconds"]}
    points: list[dict[str, Any]] = []
    for model in (build_model(spec) for name in POCKET for spec in (name, f"gradient_norm|{name}")):
        asked = [repr(model), model.weights_sha256, EPS, len(items)]
        path = out / "theorem" / f"{model.label.replace('|', '-')}.json"
        points += _kept(path, asked, partial(theorem, model, items, EPS, device))
    pd.DataFrame(rows).to_csv(out / "sweep.csv", index=False, float_format="%.6g")
    pd.DataFrame(points).to_csv(out / "theorem.csv", index=False, float_format="%.6g")
    manifest = {
        "command": command,
        "data": facts["data"],
        **options,
        "pictures": images,
        "attacks": ATTACKS,
        "eps": EPS,
        "models": {name: build_model(f"gradient_norm|{name}").weights_sha256 for name in POCKET},
        **provenance(),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return write(out)


def _kept(path: Path, asked: list[Any], make: Callable[[], Any]) -> Any:
    """What ``make`` gives, or gave when the same was ``asked`` before."""
    asked = json.loads(json.dumps(asked))
    if path.exists() and (kept := json.loads(path.read_text(encoding="utf-8")))["asked"] == asked:
        return kept["found"]
    found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"asked": asked, "found": found}), encoding="utf-8")
    return found


def _trained(
    defense: Defense,
    scorer: Model,
    data: Path,
    folder: Path,
    options: dict[str, Any],
    items: Sequence[ImageItem],
    log: Callable[[str], object],
    first: bool,
) -> dict[str, Any]:
    """Facts of the training, and the attacks on the hardened scorer; with the ``first`` also on the scorer before."""
    log(f"{defense.label}|{scorer.label}")
    recipe = training_of(defense.name)(defense.defend(scorer), crop=options["crop"])
    shared = {key: value for key, value in options.items() if key != "crop"}
    facts = recipe.train(data, folder, **shared, command=f"iqarena sweep '{scorer.label}' --data {data.name}")
    file = str((folder / facts["file"]).resolve())
    hard = dataclasses.replace(defense, weights=file).defend(scorer)  # pyright: ignore[reportCallIssue]
    found = {"facts": facts, "hardened": attacked(hard, items, ATTACKS, options["device"])}
    return found | ({"own": attacked(scorer, items, ATTACKS, options["device"])} if first else {})


def _clean(measured: dict[str, float]) -> dict[str, float]:
    return {key: measured[key] for key in ("srocc", "plcc")}
