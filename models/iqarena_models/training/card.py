"""What hardening leaves behind: the changed tensors (safetensors, fp16), facts (JSON) and the card (Markdown)."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from iqarena.api import Model
from iqarena_models.defenses.hardened import Hardened, file_name, origin


def publish_hardened(
    defense: Hardened, model: Model, tensors: dict[str, Tensor], out: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write ``<defense>-<scorer>.safetensors``, ``.json`` and ``.md`` into ``out``; returns the facts."""
    path = out / file_name(defense, model)
    said = {"iqarena": json.dumps(origin(defense, model))}  # one entry: safetensors stores several in any order
    data = save({key: value.contiguous() for key, value in tensors.items()}, metadata=said)
    path.write_bytes(data)
    facts = {
        "file": path.name,
        **origin(defense, model),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "changed_parameters": sum(value.numel() for value in tensors.values()),
        **facts,
        "packages": {package: version(package) for package in ("torch", "timm", "numpy")},
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(_card(facts), encoding="utf-8")
    return facts


def _card(facts: dict[str, Any]) -> str:
    before, after, n = facts["before"], facts["after"], facts["gradient_pictures"]
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    return f"""# Card: `{facts["scorer"]}` hardened by `{facts["defense"]}`

| | before | after |
|---|---|---|
| mean ‖∇f‖₁, first {n} validation pictures | {before["gradient_l1"]:.1f} | {after["gradient_l1"]:.1f} |
| SROCC, clean validation pictures | {before["srocc"]:.4f} | {after["srocc"]:.4f} |
| PLCC, clean validation pictures | {before["plcc"]:.4f} | {after["plcc"]:.4f} |

The norm is in points of score per unit of [0, 1]; "after" is of the weights as they are stored.

| | |
|---|---|
| weights | `{facts["file"]}`, {facts["bytes"] / 1e6:.1f} MB, fp16: the {facts["changed_parameters"]:,} \
parameters that training changed |
| sha256 | `{facts["sha256"]}` |
| laid over | `{facts["scorer"]}`, sha256 `{facts["base_sha256"] or "none"}` |
| trained on | {facts["data"]} |
| recipe | {facts["recipe"]} |
| selected | {facts["selected"]} |
| seed, precision | {facts["seed"]}, {facts["precision"]} on {facts["device"]} |
| time | {facts["training_seconds"] / 60:.1f} minutes |
| made by | `{facts["command"]}` with {packages} |
"""
