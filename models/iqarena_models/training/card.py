"""What training stores: weights, facts (JSON) and the model card (Markdown)."""

from __future__ import annotations

import hashlib
import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from iqarena.api import IqarenaError, write_atomically
from iqarena_models.training.data import Opinions

if TYPE_CHECKING:
    from iqarena_models.training.recipe import Recipe


def identity(recipe: Recipe, opinions: Opinions) -> str:
    """Names a training: a checkpoint of another one is left alone."""
    about = [recipe.name, str(recipe), recipe.starts_from, dict(recipe.metadata), dict(recipe.facts), str(opinions)]
    return hashlib.sha256(repr(about).encode()).hexdigest()


def round_to_half(recipe: Recipe, net: nn.Module) -> None:
    """Round what will be stored as fp16, so that what is measured is what is stored."""
    if recipe.suffix == ".safetensors":
        net.load_state_dict(_halves(recipe, net), strict=False)


def _halves(recipe: Recipe, net: nn.Module) -> dict[str, Tensor]:
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in recipe.tensors(net).items()
    }
    for key, value in tensors.items():
        if not value.isfinite().all():
            raise IqarenaError(f"{recipe.name}: expected tensors within fp16's ±65504, found more in {key}")
    return tensors


def write(recipe: Recipe, net: nn.Module, opinions: Opinions, measured: dict[str, Any], out: Path) -> dict:
    """Write ``<name>`` with its suffix, ``<name>.json`` and ``<name>.md`` into ``out``; returns the facts."""
    path, buffer = out / f"{recipe.name}{recipe.suffix}", io.BytesIO()
    if recipe.suffix == ".safetensors":
        buffer.write(save(_halves(recipe, net), metadata=dict(recipe.metadata) or None))
    else:
        torch.save(recipe.tensors(net), buffer)
    data = buffer.getvalue()
    facts = {
        "name": recipe.name,
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        **recipe.facts,
        "design": recipe.design,
        "starts_from": recipe.starts_from,
        "data": str(opinions),
        "recipe": str(recipe),
        **measured,
        "licence": recipe.licence,
        "packages": {package: version(package) for package in ("torch", "timm", "numpy")},
    }
    card = _card(facts | {"own": list(recipe.facts)})
    for target, content in {
        path: data,
        path.with_suffix(".json"): (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode(),
        path.with_suffix(".md"): card.encode(),
    }.items():
        write_atomically(target, content)
    return facts


def _card(facts: dict[str, Any]) -> str:
    rows = {
        "weights": f"`{facts['file']}`, {facts['bytes'] / 1e6:.1f} MB, {facts['parameters']:,} parameters",
        "sha256": f"`{facts['sha256']}`",
        "starts from": facts["starts_from"],
        "trained on": facts["data"],
        "recipe": facts["recipe"],
        **{key.replace("_", " "): facts[key] for key in facts["own"]},
        "seed, precision": f"{facts['seed']}, {facts['precision']}",
        "epochs, time": f"{facts['epochs']}, {facts['training_seconds'] / 60:.1f} minutes on {facts['device']}",
        "selected": facts["selected"],
        "validation": f"{facts['validation_size']} images",
        "full images": _values({name: facts[f"validation_{name}"] for name in ("srocc", "p", "plcc")}),
        "central 224² crops": _values(facts["validation_crops"]),
    }
    if apart := facts.get("excluded"):
        rows[f"kept apart, {apart['images']} images"] = f"{_values(apart['full'])}; crops: {_values(apart['crops'])}"
    if anew := facts.get("trained_without"):
        rows[f"trained anew without {anew['part']}, on {anew['training_images']:,} images"] = (
            f"on the {anew['images']:,} images left out: {_values(anew['full'])}; crops: {_values(anew['crops'])};"
            f" on {anew['validation_size']} validation images of the others: SROCC {anew['validation_srocc']:.4f};"
            f" `{anew['command']}`, {anew['training_seconds'] / 60:.1f} minutes"
        )
    if before := facts.get("before"):
        rows |= {f"{name}, before and after": f"{before[name]:.4g} → {facts['after'][name]:.4g}" for name in before}
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    made_by = f"`{facts['command']}` with {packages}" if facts["command"] else packages
    rows |= {"made by": made_by, "licence": facts["licence"]}
    ladders = "\n".join(
        f"| {kind} | {100 * m['fall_at_every_step']:.0f} % | {100 * m['steps_that_fall']:.0f} % |"
        f" {', '.join(f'{s:.1f}' for s in m['mean_scores'])} |"
        for kind, m in facts["monotone"].items()
    )
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items() if value not in ("", None))
    return f"""# Card: `{facts["name"]}`

{facts["design"]}

| | |
|---|---|
{table}

Falling scores on ladders of growing degradation (the untouched image and five strengths,
{facts["monotone"]["blur"]["images"]} embedded images):

| ladder | images that fall at every step | steps that fall | mean score, weakest first |
|---|---|---|---|
{ladders}
"""


def _values(agreement: dict[str, float]) -> str:
    return f"SROCC {agreement['srocc']:.4f} (p {agreement['p']:.1g}), PLCC {agreement['plcc']:.4f}"
