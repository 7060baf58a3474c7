"""Builds, grows and finishes the manifest of a run."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from iqarena.api import Attack, Model, Plugin
from iqarena.errors import StoreError
from iqarena.files.hashing import json_digest
from iqarena.runner.driver import Options, shard_items
from iqarena.store.folder import Store
from iqarena.store.keys import SCHEMA, Keys, foreign, identity
from iqarena.store.manifest import AttackFacts, ImageFacts, Manifest, ModelFacts, PluginFacts, RowCounts
from iqarena.store.union import differences
from iqarena.suite.plan import Plan

_PACKAGES = (
    "iqarena", "torch", "timm", "numpy", "scipy", "pandas", "pyarrow", "pillow", "opencv-python-headless",
    "safetensors",
)  # fmt: skip


def build_manifest(plan: Plan, options: Options, command: str, keys: Keys | None = None) -> Manifest:
    """Everything known before the run starts; weights are those of ``keys``."""
    keys = keys or options.keys(plan)
    manifest = Manifest(
        suite=plan.suite.name,
        settings=dataclasses.asdict(plan.suite),
        command=command,
        seed=plan.suite.seed,
        started=_now(),
        **provenance(),
        device=torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device,
        precision=options.precision,
        image_set=plan.images.label,
        images=tuple(ImageFacts(item.id, item.cluster, mos=item.mos) for item in shard_items(plan)),
        reference=repr(plan.reference) if plan.reference else None,
        sources=tuple(source.spec for source in plan.sources),
        targets=tuple(map(repr, plan.targets)),
        models={repr(model): _model_facts(model, keys) for model in plan.models},
        attacks=(),
        planned=0,
        plugins=tuple(map(_plugin_facts, foreign([*plan.attacks, *plan.models, plan.images]))),
        schema=SCHEMA,
    )
    return with_budgets(manifest, plan, plan)


def _model_facts(model: Model, keys: Keys) -> ModelFacts:
    known = keys.identity(model)
    return ModelFacts(
        weights_sha256=known[-1],
        stochastic=model.stochastic,
        facts=dict(model.facts),
        label=model.label,
        random_defense=any(defense.stochastic for defense in model.defenses),
        hardened=known[-1] != keys.identity(model.undefended)[-1],
        reconstructed="; ".join(p.reconstructed for p in (*model.defenses, model.undefended) if p.reconstructed),
        identity=json_digest(known),
    )


def _plugin_facts(plugin: Plugin) -> PluginFacts:
    file = getattr(sys.modules.get(type(plugin).__module__), "__file__", None) or ""
    return PluginFacts(plugin.name, Path(file).name, plugin.code_sha256, plugin.distribution)


def _attack_facts(attack: Attack, *, searched: bool, planned: int) -> AttackFacts:
    return AttackFacts(
        spec=repr(attack), label=attack.label, eps=attack.eps, version=attack.version, access=attack.access,
        queries=attack.queries, floor=attack.floor, searched=searched,
        published=attack.published, reconstructed=attack.reconstructed, bibtex=attack.bibtex, planned=planned,
        identity=json_digest(identity(attack)),
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
    if lines := differences(old, manifest):
        raise StoreError(
            f"{store.folder} holds another run ({'; '.join(lines)});"
            " choose another folder with --out, or replace it with --overwrite always"
        )
    return old


def finish(manifest: Manifest, rows: pd.DataFrame) -> Manifest:
    """The manifest with the end time, the hashes of the images and the row counts."""
    readable = rows[rows["image_sha256"] != ""]
    hashes = dict(zip(readable["image"], readable["image_sha256"], strict=True))
    return dataclasses.replace(
        manifest,
        finished=_now(),
        images=tuple(dataclasses.replace(image, sha256=hashes.get(image.id, "")) for image in manifest.images),
        rows=row_counts(rows),
    )


def row_counts(rows: pd.DataFrame) -> RowCounts:
    ok = int(rows["status"].eq("ok").sum())
    return RowCounts(ok=ok, error=len(rows) - ok)


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
