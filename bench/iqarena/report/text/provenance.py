"""Where the numbers of a report come from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from iqarena.suite.relations import HELD_OUT


def provenance(manifest: Mapping[str, Any], rows: pd.DataFrame) -> dict[str, str]:
    """Where the numbers come from, as name → text."""
    command = manifest.get("command", "")
    ok, planned = int((rows["status"] == "ok").sum()), manifest.get("planned", len(rows))
    held_out = rows[rows["relation"].isin(HELD_OUT)]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(manifest.get("packages", {}).items()))
    facts = {
        "Suite": manifest.get("suite", ""),
        "Command": command if isinstance(command, str) else shlex.join(command),
        "Seed": str(manifest["seed"]),
        "Run": f"{manifest.get('started', '')} to {manifest.get('finished') or 'unfinished'}",
        "Results": f"{ok} of {planned} planned rows are there ({_percent(ok, planned)})",
        "Gradients": _gradients(rows, manifest.get("gradients")),
        "Size": f"{rows['image'].nunique()} pictures in {rows['cluster'].nunique()} clusters, "
        f"{rows['attack_label'].nunique()} attacks, "
        f"{held_out[['source', 'target']].drop_duplicates().shape[0]} held-out pairs of source and target",
        "Sources": ", ".join(manifest.get("sources", [])),
        "Targets": ", ".join(manifest["targets"]),
        "Device": ", ".join(str(manifest[k]) for k in ("device", "precision") if manifest.get(k)),
        "Software": ", ".join(filter(None, [f"Python {manifest.get('python', '?')}", packages])),
        "Commit": manifest.get("git_commit") or "",
    }
    return {name: str(text) for name, text in facts.items() if text}


def _gradients(rows: pd.DataFrame, counts: Mapping[str, Any] | None) -> str:
    """How many gradients the rows say were asked for, and how many the run says it evaluated for them."""
    if not counts:
        return ""
    crafted = rows.drop_duplicates(["attack", "source", "image", "repeat"])
    asked = f"{crafted['backwards'].sum():,.0f} gradients of a picture asked for by the attacks"
    if counts["resumed"]:
        return f"{asked}; the last invocation, which went on from earlier rows, evaluated {counts['evaluated']:,}"
    return f"{asked}, {counts['evaluated']:,} evaluated; the others were remembered"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none planned"
