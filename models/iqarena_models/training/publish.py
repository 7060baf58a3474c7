"""What training leaves behind: weights (safetensors, fp16), facts (JSON) and the model card (Markdown)."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from iqarena.images.degrade import LADDERS, ladder
from iqarena_models.pocket.net import PocketNet, fold
from iqarena_models.training.loop import Trained


def publish(
    name: str, trained: Trained, out: Path, facts: dict[str, Any], pictures: list[np.ndarray]
) -> dict[str, Any]:
    """Write ``<name>.safetensors``, ``.json`` and ``.md`` into ``out``; returns the facts.

    ``facts`` says how the scorer was made; ``pictures`` (uint8 RGB) are what monotonicity is measured on.
    """
    data = save({key: _half(value) for key, value in trained.net.state_dict().items()})
    (out / f"{name}.safetensors").write_bytes(data)
    facts = {
        "name": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(p.numel() for p in trained.net.parameters()),
        "validation_srocc": round(trained.srocc, 4),
        "validation_plcc": round(trained.plcc, 4),
        "monotone": falls_on_ladders(fold(trained.net), pictures),
        **facts,
        "epochs": len(trained.log),
        "training_seconds": round(sum(e["seconds"] for e in trained.log)),
        "packages": {p: version(p) for p in ("torch", "timm", "numpy")},
    }
    (out / f"{name}.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(_card(facts), encoding="utf-8")
    return facts


@torch.inference_mode()
def falls_on_ladders(net: PocketNet, pictures: list[np.ndarray]) -> dict[str, dict[str, Any]]:
    """Per ladder: the share of pictures whose score falls at every step, and the share of all steps that fall."""
    found: dict[str, dict[str, Any]] = {}
    for kind in LADDERS:
        rungs = np.stack([np.stack(ladder(picture, kind)) for picture in pictures])
        scores = np.array([[float(net(_tensor(p))[0]) for p in picture] for picture in rungs])
        falls = np.diff(scores, axis=1) < 0
        found[kind] = {
            "pictures": len(pictures),
            "fall_at_every_step": round(float(falls.all(1).mean()), 3),
            "steps_that_fall": round(float(falls.mean()), 3),
            "mean_scores": [round(float(s), 2) for s in scores.mean(0)],
        }
    return found


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255


def _half(value: torch.Tensor) -> torch.Tensor:
    return value.half().contiguous() if value.is_floating_point() else value.contiguous()


def _card(facts: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {kind} | {100 * m['fall_at_every_step']:.0f} % | {100 * m['steps_that_fall']:.0f} % |"
        f" {', '.join(f'{s:.1f}' for s in m['mean_scores'])} |"
        for kind, m in facts["monotone"].items()
    )
    packages = ", ".join(f"{k} {v}" for k, v in facts["packages"].items())
    return f"""# Model card: `{facts["name"]}`

{facts["design"]}

| | |
|---|---|
| weights | `{facts["name"]}.safetensors`, {facts["bytes"] / 1e6:.1f} MB, fp16, {facts["parameters"]:,} parameters |
| sha256 | `{facts["sha256"]}` |
| starts from | {facts["starts_from"]} |
| trained on | {facts["data"]} |
| recipe | {facts["recipe"]} |
| seed | {facts["seed"]} |
| epochs, time | {facts["epochs"]}, {facts["training_seconds"] / 60:.0f} minutes on {facts["device"]} |
| validation | SROCC {facts["validation_srocc"]:.4f}, PLCC {facts["validation_plcc"]:.4f} \
({facts["validation_size"]} pictures, never used to select) |
| made by | `{facts["command"]}` with {packages} |
| licence | {facts["licence"]} |

Scores are on 0–100 (opinion scores × 100), higher = better; pictures are looked at in half size, both sides ≥ 64.

Falling scores on ladders of growing degradation (the untouched picture and five strengths,
{facts["monotone"]["blur"]["pictures"]} embedded photographs):

| ladder | pictures that fall at every step | steps that fall | mean score, weakest first |
|---|---|---|---|
{rows}
"""
