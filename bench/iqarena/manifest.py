"""The manifest: all that is needed to say what a run was and to run it again."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from iqarena.errors import StoreError
from iqarena.plan import Plan
from iqarena.runner import Options, shard_items
from iqarena.store import Store

_PACKAGES = ("iqarena", "torch", "timm", "numpy", "scipy", "pandas", "pyarrow", "opencv-python-headless", "safetensors")
_MUST_MATCH = ("suite", "settings", "attacks", "sources", "targets", "precision")


def build_manifest(plan: Plan, options: Options, command: str) -> dict[str, Any]:
    """Everything known before the run starts."""
    pairs = sum(len(plan.scored(source)) for source in plan.sources)
    items = shard_items(plan)
    return {
        "suite": plan.suite.name,
        "settings": dataclasses.asdict(plan.suite),
        "command": command,
        "seed": plan.suite.seed,
        "started": _now(),
        "finished": None,
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device,
        "precision": options.precision,
        "git_commit": _commit(),
        "image_set": repr(plan.images),
        "images": [{"id": item.id, "cluster": item.cluster} for item in items],
        "attacks": [
            {
                "spec": repr(a), "label": a.label, "eps": a.eps, "version": a.version, "access": a.access,
                "reconstructed": a.reconstructed, "bibtex": a.bibtex,
            }
            for a in plan.attacks
        ],
        "sources": [s.spec for s in plan.sources],
        "targets": [repr(t) for t in plan.targets],
        "baselines": plan.suite.baselines,
        "models": {repr(m): {"weights_sha256": m.weights_sha256, "facts": m.facts} for m in plan.models},
        "planned": len(items) * len(plan.attacks) * pairs * plan.suite.repeats,
    }  # fmt: skip


def check_same_run(store: Store, manifest: dict[str, Any]) -> str | None:
    """Start time of the run that ``store`` already holds; raises when it is another run than ``manifest``'s."""
    if not (store.folder / "manifest.json").exists():
        return None
    old = store.manifest()
    for key in _MUST_MATCH:
        if old.get(key) != manifest[key]:
            raise StoreError(
                f"{store.folder} holds a run with another {key}; choose another --out, or --overwrite always to replace it"
            )
    return old["started"]


def finish(manifest: dict[str, Any], store: Store) -> dict[str, Any]:
    """The manifest with the end time, the picture hashes and the row counts."""
    rows = store.rows()
    hashes = {} if rows.empty else dict(zip(rows["image"], rows["image_sha256"], strict=True))
    counts = {} if rows.empty else rows["status"].value_counts().to_dict()
    return manifest | {
        "finished": _now(),
        "images": [image | {"sha256": hashes.get(image["id"], "")} for image in manifest["images"]],
        "rows": {"ok": int(counts.get("ok", 0)), "error": int(counts.get("error", 0))},
    }


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
    """Commit of the checkout that is running, ``+`` when it has uncommitted changes; None outside a checkout."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
