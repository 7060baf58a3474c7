"""``iqarena train pocket/<name>``: data, loop and publication of one pocket scorer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from iqarena.images.sets.pocket import PocketImages
from iqarena_models.training.data import load_training_data
from iqarena_models.training.loop import RANK_WEIGHT, train
from iqarena_models.training.publish import publish
from iqarena_models.training.recipes import RECIPES, TRUNK_LICENCE, Recipe


def train_pocket(
    name: str,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "cpu",
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train, store weights, facts and card in ``out``; returns the facts. Raises ``ImageError`` for unusable data."""
    recipe = RECIPES[name]
    pictures = load_training_data(data, out.parent / "cache", limit=limit, apart=not recipe.slope)
    trained = train(recipe, pictures, out, seed=seed, epochs=epochs, device=device, say=say)
    images = PocketImages()
    pristine = [images.read(item) for item in images.items() if "+" not in item.id]
    options = "".join(f" --{key} {value}" for key, value in (("epochs", epochs), ("limit", limit)) if value is not None)
    facts = {
        "design": recipe.design,
        "backbone": recipe.backbone,
        "starts_from": recipe.starts_from,
        "data": f"{data.name}: {len(pictures.train)} training and {len(pictures.val)} validation pictures"
        f" with mean opinion scores (digest {pictures.digest})",
        "recipe": _words(recipe),
        "seed": seed,
        "device": device,
        "validation_size": len(pictures.val),
        "licence": "weights trained by the iqarena authors, MIT"
        + (f"; trunk: {TRUNK_LICENCE}" if recipe.backbone != "none" else ""),
        "command": f"iqarena train pocket/{name} --data {data.name} --seed {seed}{options}",
    }
    return publish(name, trained, out, facts, pristine)


def _words(recipe: Recipe) -> str:
    tail = f", trunk tail × {recipe.tail_rate}" if recipe.backbone != "none" else f", random crops of {recipe.crop}²"
    precision = "bfloat16 autocast" if recipe.autocast else "float32"
    loss = recipe.loss.__name__.strip("_")
    return (
        f"AdamW, one-cycle peak {recipe.rate}{tail}, batch {recipe.batch}, {precision}, weight averaging 0.99;"
        f" {loss} loss + {RANK_WEIGHT} × ranking hinge on {recipe.ranked} degraded pairs a batch"
        + (f" of any two strengths, in equal ratios, margin {recipe.slope} × their distance" if recipe.slope else "")
    )
