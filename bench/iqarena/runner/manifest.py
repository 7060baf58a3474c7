"""The manifest: all that is needed to say what a run was and to run it again."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import subprocess
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from iqarena.api import Attack, Model
from iqarena.errors import StoreError
from iqarena.runner.driver import Options, shard_items
from iqarena.store.folder import Store
from iqarena.store.manifest import AttackFacts, ImageFacts, Manifest, ModelFacts, RowCounts
from iqarena.suite.plan import Plan

_PACKAGES = ("iqarena", "torch", "timm", "numpy", "scipy", "pandas", "pyarrow", "opencv-python-headless", "safetensors")
_MUST_MATCH = ("settings", "device", "precision")  # versions, weights and images are in the rows' keys


def build_manifest(plan: Plan, options: Options, command: str) -> Manifest:
    """Everything known before the run starts."""
    manifest = Manifest(
        suite=plan.suite.name,
        settings=dataclasses.asdict(plan.suite),
        command=command,
        seed=plan.suite.seed,
        started=_now(),
        **provenance(),
        device=torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device,
        precision=options.precision,
        image_set=repr(plan.images),
        images=tuple(ImageFacts(item.id, item.cluster) for item in shard_items(plan)),
        reference=repr(plan.reference) if plan.reference else None,
        sources=tuple(source.spec for source in plan.sources),
        targets=tuple(map(repr, plan.targets)),
        baselines=plan.baselines,
        models={repr(model): _model_facts(model) for model in plan.models},
        attacks=(),
        planned=0,
    )
    return with_budgets(manifest, plan, plan)


def _model_facts(model: Model) -> ModelFacts:
    return ModelFacts(
        weights_sha256=model.weights_sha256,
        stochastic=model.stochastic,
        facts=dict(model.facts),
        label=model.label,
        random_defense=any(defense.stochastic for defense in model.defenses),
        hardened=model.weights_sha256 != model.undefended.weights_sha256,
    )


def _attack_facts(attack: Attack, *, searched: bool, planned: int) -> AttackFacts:
    return AttackFacts(
        spec=repr(attack), label=attack.label, eps=attack.eps, version=attack.version, access=attack.access,
        queries=attack.queries, floor=getattr(attack, "floor", attack.access == "none"), searched=searched,
        published=attack.published, reconstructed=attack.reconstructed, bibtex=attack.bibtex, planned=planned,
    )  # fmt: skip


def provenance() -> dict[str, Any]:
    """What code ran, and on what."""
    return {
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "git_commit": _commit(),
    }


def with_budgets(manifest: Manifest, plan: Plan, budgets: Plan) -> Manifest:
    """With the attacks of ``budgets``, marked where ``plan`` did not declare them, and the number of rows planned."""
    results, times = budgets.results(), len(manifest.images) * plan.suite.repeats
    of_attack = Counter(attack for attack, _, _ in results)
    of_target = Counter(repr(target) for _, _, target in results)
    return dataclasses.replace(
        manifest,
        attacks=tuple(
            _attack_facts(attack, searched=attack not in plan.attacks, planned=of_attack[attack] * times)
            for attack in budgets.attacks
        ),
        models={
            spec: dataclasses.replace(model, planned=of_target[spec] * times) for spec, model in manifest.models.items()
        },
        planned=len(results) * times,
    )


def earlier_manifest(store: Store, manifest: Manifest) -> Manifest | None:
    """Manifest of the run that ``store`` already holds, if any; raises when that is another run than ``manifest``'s."""
    if not store.has_manifest():
        return None
    old = store.manifest()
    differences = [
        line for name in _MUST_MATCH for line in _differences(getattr(old, name), getattr(manifest, name), name)
    ]
    if differences:
        raise StoreError(
            f"{store.folder} holds another run ({'; '.join(differences)});"
            " choose another folder with --out, or replace it with --overwrite always"
        )
    return old


def finish(manifest: Manifest, rows: pd.DataFrame) -> Manifest:
    """The manifest with the end time, the hashes of the images and the row counts."""
    hashes = dict(zip(rows["image"], rows["image_sha256"], strict=True))
    ok = int(rows["status"].eq("ok").sum())
    return dataclasses.replace(
        manifest,
        finished=_now(),
        images=tuple(dataclasses.replace(image, sha256=hashes[image.id]) for image in manifest.images),
        rows=RowCounts(ok=ok, error=len(rows) - ok),
    )


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
