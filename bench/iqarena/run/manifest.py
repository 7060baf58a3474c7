"""The manifest: all that is needed to say what a run was and to run it again."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from iqarena.api import Model
from iqarena.errors import StoreError
from iqarena.run.driver import Options, shard_items
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan

_PACKAGES = ("iqarena", "torch", "timm", "numpy", "scipy", "pandas", "pyarrow", "opencv-python-headless", "safetensors")
_MUST_MATCH = ("settings", "device", "precision")  # versions, weights and pictures are in the rows' keys


def build_manifest(plan: Plan, options: Options, command: str) -> dict[str, Any]:
    """Everything known before the run starts."""
    items = shard_items(plan)
    return {
        "suite": plan.suite.name,
        "settings": dataclasses.asdict(plan.suite),
        "command": command,
        "seed": plan.suite.seed,
        "started": _now(),
        "finished": None,
        **provenance(),
        "device": torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device,
        "precision": options.precision,
        "image_set": repr(plan.images),
        "images": [{"id": item.id, "cluster": item.cluster} for item in items],
        "reference": repr(plan.grid.reference) if plan.grid else None,
        "sources": [s.spec for s in plan.sources],
        "targets": [repr(t) for t in plan.targets],
        "baselines": list(plan.baselines),
        "models": {
            repr(m): {"weights_sha256": m.weights_sha256, "stochastic": m.stochastic, "facts": m.facts} | _defended(m)
            for m in plan.models
        },
    } | with_budgets(plan, plan)


def _defended(model: Model) -> dict[str, Any]:
    """What a report needs to know of a defended model."""
    if not model.defenses:
        return {}
    return {
        "label": model.label,
        "random_defense": any(defense.stochastic for defense in model.defenses),
        "hardened": model.weights_sha256 != model.undefended.weights_sha256,
    }


def provenance() -> dict[str, Any]:
    """What code ran, and on what."""
    return {
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "git_commit": _commit(),
    }


def with_budgets(plan: Plan, budgets: Plan) -> dict[str, Any]:
    """What a search adds to: the attacks of ``budgets``, marked where ``plan`` did not declare them, and their rows."""
    return {
        "attacks": [
            {
                "spec": repr(a), "label": a.label, "eps": a.eps, "version": a.version, "access": a.access,
                "queries": a.queries, "published": a.published,
                "reconstructed": a.reconstructed, "bibtex": a.bibtex,
                **({} if a in plan.attacks else {"searched": True}),
            }
            for a in budgets.attacks
        ],
        "planned": len(shard_items(plan)) * len(budgets.results()) * plan.suite.repeats,
    }  # fmt: skip


def earlier_manifest(store: Store, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Manifest of the run that ``store`` already holds, if any; raises when that is another run than ``manifest``'s."""
    if not store.has_manifest():
        return None
    old = store.manifest()
    differences = _differences({k: old.get(k) for k in _MUST_MATCH}, {k: manifest[k] for k in _MUST_MATCH})
    if differences:
        raise StoreError(
            f"{store.folder} holds another run ({'; '.join(differences)});"
            " choose another folder with --out, or replace it with --overwrite always"
        )
    return old


def finish(manifest: dict[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    """The manifest with the end time, the picture hashes and the row counts."""
    hashes = dict(zip(rows["image"], rows["image_sha256"], strict=True))
    ok = int(rows["status"].eq("ok").sum())
    return manifest | {
        "finished": _now(),
        "images": [image | {"sha256": hashes[image["id"]]} for image in manifest["images"]],
        "rows": {"ok": ok, "error": len(rows) - ok},
    }


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    """``name: old → new`` for all that differs between two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [line for key in keys for line in _differences(old.get(key), new.get(key), key)]
    return [] if old == new else [f"{name}: {_short(old)} there, {_short(new)} asked for"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Kind of processor: its vector instructions decide the last bits of a score."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _commit() -> str | None:
    """Commit of the checkout that is running, ``+`` when its code is not committed; None outside a checkout."""
    here, code = Path(__file__), (":/bench", ":/attacks", ":/models")

    def git(*args: str) -> str:
        command = ["git", "-C", str(here.parent), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an installed copy may lie inside a checkout of something else
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno", "--", *code) else "")
    except (OSError, subprocess.CalledProcessError):
        return None
