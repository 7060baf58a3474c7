"""Where the numbers of a report come from."""

from __future__ import annotations

import pandas as pd

from iqarena.store.manifest import GradientCounts, Manifest
from iqarena.suite.relations import HELD_OUT


def provenance(manifest: Manifest, rows: pd.DataFrame) -> dict[str, str]:
    """Where the numbers come from, as name → text."""
    ok = int((rows["status"] == "ok").sum())
    held_out = rows[rows["relation"].isin(HELD_OUT)]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(manifest.packages.items()))
    facts = {
        "Suite": manifest.suite,
        "Command": manifest.command,
        "Seed": str(manifest.seed),
        "Run": f"{manifest.started} to {manifest.finished or 'unfinished'}",
        "Results": f"{ok} of {manifest.planned} planned rows are there ({_percent(ok, manifest.planned)})",
        "Gradients": _gradients(rows, manifest.gradients),
        "Size": f"{rows['image'].nunique()} pictures in {rows['cluster'].nunique()} clusters, "
        f"{rows['attack_label'].nunique()} attacks, "
        f"{held_out[['source', 'target']].drop_duplicates().shape[0]} held-out pairs of source and target",
        "Sources": ", ".join(manifest.sources),
        "Targets": ", ".join(manifest.targets),
        "Device": f"{manifest.device}, {manifest.precision}",
        "Software": f"Python {manifest.python}, {packages}",
        "Commit": manifest.git_commit or "",
    }
    return {name: str(text) for name, text in facts.items() if text}


def _gradients(rows: pd.DataFrame, counts: GradientCounts | None) -> str:
    """How many gradients the rows say were asked for, and how many the run says it evaluated for them."""
    if not counts:
        return ""
    crafted = rows.drop_duplicates(["attack", "source", "image", "repeat"])
    asked = f"{crafted['backwards'].sum():,.0f} gradients of a picture asked for by the attacks"
    if counts.resumed:
        return f"{asked}; the last invocation, which went on from earlier rows, evaluated {counts.evaluated:,}"
    return f"{asked}, {counts.evaluated:,} evaluated; the others were remembered"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none planned"
