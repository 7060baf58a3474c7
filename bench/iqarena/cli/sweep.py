"""``sweep``: gradient-norm regularisation over its two parameters, and its theorem on the pocket zoo."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqarena.cli.run import checked_device
from iqarena.errors import IqarenaError

if TYPE_CHECKING:
    from iqarena.api import ImageItem, Model

GRID = (
    *(f"gradient_norm(weight={weight})" for weight in ("1e-5", "1e-4", "1e-3")),
    *(f"gradient_norm(h={h})" for h in ("1e-3", "1e-1")),
)
ATTACKS = ("fgsm", "pgd", "sega")
POCKET = ("bilinear", "cnn", "hyper", "linearity", "vit")
EPS = ("1/25500", "1/2550", "1/255")


@click.command()
@click.argument("scorers", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with images/ and mos.csv.")
@click.option("--defense", "defenses", multiple=True, default=GRID, help="What to train with [weights and steps].")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/runs/gradient_norm_sweep"))
@click.option("--limit", type=click.IntRange(16), default=160, show_default=True, help="Pictures of each split.")
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--crop", type=click.IntRange(16), default=256, show_default=True, help="Side of the random crops.")
@click.option("--pictures", type=click.IntRange(1), default=8, show_default=True, help="Of the pocket set, attacked.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
def sweep(
    scorers: tuple[str, ...], data: Path, defenses: tuple[str, ...], out: Path, limit: int, epochs: int, crop: int,
    pictures: int, seed: int, device: str,
) -> None:  # fmt: skip
    """Train SCORERS on with every DEFENSE, shortly, and measure: gradient norm, clean SROCC, change under attacks.

    Beside it stands the check of the theorem, change against eps · gradient norm, on all pocket scorers as they are
    shipped, without and with gradient_norm. What is measured is kept; tables and figures are written at the end.
    """
    import pandas as pd

    from iqarena.api.spec import Number, parse
    from iqarena.images.sets.pocket import PocketImages
    from iqarena.registry.tables import build, build_model
    from iqarena.report.studies.flatness import write
    from iqarena.runner.manifest import provenance
    from iqarena.tools.flatness import theorem

    if not data.is_dir():
        raise IqarenaError(f"--data: expected a folder with images/ and mos.csv, found no folder {data}")
    where = checked_device(device)
    options = {"seed": seed, "epochs": epochs, "limit": limit, "crop": crop, "device": where}
    items = PocketImages().items()
    rows: list[dict[str, Any]] = []
    for scorer in map(build_model, scorers):
        for i, defense in enumerate(build("defense", spec) for spec in defenses):
            folder = out / "training" / f"{scorer.name}-{i}"
            asked = [repr(defense), repr(scorer), scorer.weights_sha256, options, pictures]
            trained = partial(_trained, defense, scorer, data, folder, options, items[:pictures], first=i == 0)
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
        points += _kept(path, asked, partial(theorem, model, items, EPS, where))
    pd.DataFrame(rows).to_csv(out / "sweep.csv", index=False, float_format="%.6g")
    pd.DataFrame(points).to_csv(out / "theorem.csv", index=False, float_format="%.6g")
    manifest = {
        "command": shlex.join(["iqarena", *sys.argv[1:]]),
        "data": facts["data"],
        **options,
        "pictures": pictures,
        "attacks": ATTACKS,
        "eps": EPS,
        "models": {name: build_model(f"gradient_norm|{name}").weights_sha256 for name in POCKET},
        **provenance(),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    click.echo(write(out))


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
    defense: Any,
    scorer: Model,
    data: Path,
    folder: Path,
    options: dict[str, Any],
    items: Sequence[ImageItem],
    first: bool,
) -> dict[str, Any]:
    """Facts of the training, and the attacks on the hardened scorer; with the ``first`` also on the scorer before."""
    from iqarena.registry.tables import training_of
    from iqarena.tools.flatness import attacked

    click.echo(f"{defense.label}|{scorer.label}")
    recipe = training_of(defense.name)(defense.defend(scorer), crop=options["crop"])
    shared = {key: value for key, value in options.items() if key != "crop"}
    facts = recipe.train(data, folder, **shared, command=f"iqarena sweep '{scorer.label}' --data {data.name}")
    file = str((folder / facts["file"]).resolve())
    hard = dataclasses.replace(defense, weights=file).defend(scorer)
    found = {"facts": facts, "hardened": attacked(hard, items, ATTACKS, options["device"])}
    return found | ({"own": attacked(scorer, items, ATTACKS, options["device"])} if first else {})


def _clean(measured: dict[str, float]) -> dict[str, float]:
    return {key: measured[key] for key in ("srocc", "plcc")}
